// The dense fold's operators; see label_operators.cpp.

#include <cmath>
#include <tuple>

#include "histogram.h"
#include "levels.h"

namespace lossfold {
namespace {

const DenseKernels& dense_kernels() {
#if defined(LOSSFOLD_X86_LEVELS)
  if (level() == Level::v4) return dense_kernels_v4;
  if (level() == Level::v3) return dense_kernels_v3;
#endif
  return dense_kernels_baseline;
}

// scores [B, K, *S] or [B, K, h, w], targets [B, K, *S], weight [B, *S] or [B, K, *S].
struct DenseProblem : Problem {
  Tensor targets;
  std::optional<Tensor> weight, maps;
  std::vector<DenseSum> kinds;
  std::vector<double> gammas;
  DenseImage dense;
  bool weight_of_elements = false;

  DenseProblem(const Tensor& scores_, const Tensor& targets_, const std::optional<Tensor>& weight_, const std::optional<Tensor>& maps_, int64_t ignore_index, int64_t link,
               bool together, bool align_corners, const std::vector<int64_t>& kinds_, const std::vector<double>& gammas_, int64_t bins, bool hinge, bool may_join)
      : Problem(scores_, space_of(targets_, 2), align_corners, !together, may_join),
        targets(torch::stable::contiguous(targets_)), gammas(gammas_) {
    if (weight_) weight = torch::stable::contiguous(*weight_);
    STD_TORCH_CHECK(kinds_.size() == gammas.size() && gammas.size() <= max_sums && link >= 0 && link <= static_cast<int64_t>(Link::identity) && (together || link != 0), "lossfold: malformed dense fold");
    for (int64_t kind : kinds_) {
      STD_TORCH_CHECK(kind >= 0 && kind < static_cast<int64_t>(DenseSum::count), "lossfold: unknown sum ", kind);
      kinds.push_back(static_cast<DenseSum>(kind));
    }
    STD_TORCH_CHECK(targets.numel() == batch * channels * pixels && (!weight || weight->numel() == targets.numel() || weight->numel() == batch * pixels),
                    "lossfold: sizes of scores, targets and weight differ");
    weight_of_elements = weight && weight->numel() == targets.numel() && channels > 1;
    if (weight) image.weight_type = type_of(*weight, "weight");
    maps = take_maps(maps_, std::any_of(kinds.begin(), kinds.end(), [](DenseSum kind) { return kind == DenseSum::map_prob || kind == DenseSum::map_size; }));
    image.ignore_index = ignore_index;
    image.bins = static_cast<int>(bins);
    image.sums_stride = static_cast<int64_t>(kinds.size()) * image.classes;
    static_cast<Image&>(dense) = image;
    dense.target_type = type_of(targets, "targets");
    dense.integers = dense.target_type >= Type::i64 && dense.target_type != Type::b8;
    dense.link = static_cast<Link>(link);
    dense.together = together;
    dense.hinge = hinge;
    dense.dense_sums = static_cast<int>(kinds.size());
    dense.dense_kinds = kinds.data();
    dense.dense_gammas = gammas.data();
    dense.element_weight = nullptr;
  }

  DenseImage at(int64_t i) const {
    DenseImage one = dense;
    const int64_t element = (sample(i) * channels + channel(i)) * pixels, pixel = sample(i) * pixels;
    one.scores = offset(scores, start_of(scores, i));
    one.targets = offset(targets, element);
    one.maps = maps ? offset(*maps, element) : nullptr;
    if (weight_of_elements && !split()) one.element_weight = offset(*weight, element);
    else if (weight) one.weight = offset(*weight, weight_of_elements ? element : pixel);
    return one;
  }

  // What rows [kinds, K] hold for the classes of image i: [kinds, classes].
  std::vector<double> rows_of(const double* all, int64_t i) const {
    const int64_t classes = image.classes, count = kinds.size();
    std::vector<double> rows(count * classes);
    for (int64_t k = 0; k < count; ++k)
      for (int64_t c = 0; c < classes; ++c) rows[k * classes + c] = all[k * channels + channel(i) + c];
    return rows;
  }
};

void refuse_bad_targets(const std::vector<BadTarget>& bad, const DenseImage& image) {
  for (const BadTarget& one : bad)
    STD_TORCH_CHECK(!one.found, "lossfold: target ", one.target, " is out of range [0, 1]", image.integers ? " and is not ignore_index=" : "",
                    image.integers ? std::to_string(image.ignore_index) : "");
}

std::tuple<Tensor, Tensor> dense_fold(Tensor scores, Tensor targets, std::optional<Tensor> weight, std::optional<Tensor> maps, int64_t ignore_index, int64_t link,
                                      bool together, bool align_corners, std::vector<int64_t> kinds, std::vector<double> gammas, int64_t bins,
                                      bool bins_per_image, bool hinge) {
  const DenseProblem problem(scores, targets, weight, maps, ignore_index, link, together, align_corners, kinds, gammas, bins, hinge, !(bins && bins_per_image));
  const int64_t rows = kinds.size(), classes = problem.image.classes, size = rows * classes, channels = problem.channels;
  Tensor sums = zero_sums(scores, {problem.batch, rows, channels});
  double* const total = static_cast<double*>(sums.mutable_data_ptr());
  const bool whole = problem.chunks() == 1 && !problem.split();  // one chunk an image: its sums are the image's
  std::vector<double> chunks(whole ? 0 : problem.images * problem.chunks() * size, 0.0);
  double* const parts = whole ? total : chunks.data();
  std::vector<BadTarget> bad(problem.images * problem.chunks());
  const bool packed = (!weight || problem.image.weight_type == Type::b8) && problem.longest() < int64_t{1} << 20;
  Histograms histograms(problem, packed, bins_per_image);
  problem.run(dense_kernels().workspace(problem.dense), [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* work, int64_t worker) {
    dense_kernels().fold(problem.at(b), begin, end, work, parts + i * size, histograms.of(worker, b, end - begin), &bad[i]);
  });
  refuse_bad_targets(bad, problem.dense);
  for (int64_t b = 0; b < problem.images && !whole; ++b)
    for (int64_t j = 0; j < problem.chunks(); ++j)
      for (int64_t k = 0; k < rows; ++k)
        for (int64_t c = 0; c < classes; ++c)
          total[(problem.sample(b) * rows + k) * channels + problem.channel(b) + c] += parts[(b * problem.chunks() + j) * size + k * classes + c];
  return {sums, histograms.table(scores)};
}

// By how much a position moves with its error, in each bin; for the hinge's see hinge_octaves.
std::vector<double> steepness(int64_t bins, bool hinge) {
  std::vector<double> out(bins, static_cast<double>(bins));
  if (!hinge) return out;
  const int64_t octaves = hinge_octaves, each = (bins - hinge_rest) / octaves;
  for (int64_t j = 0; j < bins; ++j)
    out[j] = j < octaves * each ? std::ldexp(static_cast<double>(each), -static_cast<int>(j / each))
                                : std::ldexp(1.0, -static_cast<int>(j - octaves * each + octaves));
  return out;
}

Tensor dense_unfold(std::optional<Tensor> grad_sums, std::optional<Tensor> grad_table, Tensor scores, Tensor targets,
                    std::optional<Tensor> weight, std::optional<Tensor> maps, int64_t ignore_index, int64_t link, bool together, bool align_corners,
                    std::vector<int64_t> kinds, std::vector<double> gammas, int64_t bins, bool, bool hinge) {
  if (!grad_table) bins = 0;
  if (!grad_sums) kinds.clear(), gammas.clear();
  const int64_t each = static_cast<int64_t>(kinds.size()) * scores.size(1);
  const Tensor grad = grad_sums ? torch::stable::contiguous(*grad_sums) : torch::stable::new_zeros(scores, {0}, ScalarType::Double);
  STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.numel() == (grad_sums ? scores.size(0) * each : 0), "lossfold: malformed gradient");
  const bool alike = same_for_all(static_cast<const double*>(grad.const_data_ptr()), grad_sums ? scores.size(0) : 0, each) && !(grad_table && grad_table->size(0) > 1);
  const DenseProblem problem(scores, targets, weight, maps, ignore_index, link, together, align_corners, kinds, gammas, bins, hinge, alike);
  const Slopes slopes(grad_table, problem, steepness(bins, hinge));
  const double* derivatives = static_cast<const double*>(grad.const_data_ptr());
  return problem.differentiate(dense_kernels().workspace(problem.dense), [&](int64_t b, int64_t, int64_t begin, int64_t end, void* memory, const GradientLayout& layout, void* out) {
    BadTarget bad;  // the fold has refused targets out of range
    const std::vector<double> rows = problem.rows_of(derivatives + problem.sample(b) * each, b);
    dense_kernels().unfold(problem.at(b), begin, end, memory, rows.data(), slopes.at(problem, b), layout, out, nullptr, &bad);
  });
}

std::tuple<Tensor, Tensor> dense_once(Tensor scores, Tensor targets, std::optional<Tensor> weight, std::optional<Tensor> maps, Tensor above, std::optional<Tensor> below,
                                      int64_t ignore_index, int64_t link, bool together, bool align_corners, std::vector<int64_t> kinds,
                                      std::vector<double> gammas, int64_t, bool, bool) {
  const DenseProblem problem(scores, targets, weight, maps, ignore_index, link, together, align_corners, kinds, gammas, 0, false, true);
  const int64_t channels = problem.channels, size = static_cast<int64_t>(kinds.size()) * channels, bytes = dense_kernels().workspace(problem.dense);
  STD_TORCH_CHECK(!maps, "lossfold: a map has no value and gradient in one pass");
  STD_TORCH_CHECK(!below || (below->scalar_type() == ScalarType::Double && below->numel() == channels && below->is_contiguous()), "lossfold: malformed coefficients");
  std::vector<BadTarget> bad(problem.images * problem.chunks());
  double counted = 1;
  if (below) {
    const double* const factors = static_cast<const double*>(below->const_data_ptr());
    if (weight || problem.dense.integers)
      counted = count_all(problem, bytes, [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* memory) {
        return dense_kernels().count(problem.at(b), begin, end, memory, factors + problem.channel(b), &bad[i]);
      });
    else counted = std::accumulate(factors, factors + channels, 0.0) * static_cast<double>(problem.batch * problem.pixels);
  }
  refuse_bad_targets(bad, problem.dense);
  const Scaled scaled(above, size, counted, problem.image.score_type);
  const int64_t classes = problem.image.classes;
  std::vector<double> values(problem.images * problem.chunks() * classes, 0.0), each(problem.batch * channels, 0.0);
  Tensor grad = problem.differentiate(bytes, [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* memory, const GradientLayout& layout, void* out) {
    const std::vector<double> rows = problem.rows_of(scaled.coefficients.data(), b);
    dense_kernels().unfold(problem.at(b), begin, end, memory, rows.data(), nullptr, layout, out, &values[i * classes], &bad[i]);
  });
  refuse_bad_targets(bad, problem.dense);
  for (int64_t b = 0; b < problem.images; ++b)  // channel by channel, so that the sum is the same bits however they are walked
    for (int64_t k = 0; k < problem.chunks() * classes; ++k)
      each[problem.sample(b) * channels + problem.channel(b) + k % classes] += values[b * problem.chunks() * classes + k];
  return {scaled.mean(each, scores), grad};
}

Tensor dense_map(Tensor scores, Tensor targets, std::optional<Tensor> weight, std::optional<Tensor> maps, Tensor coef, int64_t ignore_index, int64_t link,
                 bool together, bool align_corners, std::vector<int64_t> kinds, std::vector<double> gammas, int64_t, bool, bool) {
  const DenseProblem problem(scores, targets, weight, maps, ignore_index, link, together, align_corners, kinds, gammas, 0, false, true);
  coef = torch::stable::contiguous(coef);
  const int64_t rows = kinds.size(), channels = problem.channels;
  STD_TORCH_CHECK(coef.scalar_type() == ScalarType::Double && coef.numel() == rows * channels, "lossfold: malformed coefficients");
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d < targets.dim(); ++d)
    if (d != 1 || !together) sizes.push_back(targets.size(d));
  Tensor values = torch::stable::new_empty(scores, sizes, problem.image.score_type == Type::f64 ? ScalarType::Double : ScalarType::Float);
  advise_huge_pages(values);
  std::vector<BadTarget> bad(problem.images * problem.chunks());
  const double* factors = static_cast<const double*>(coef.const_data_ptr());
  char* out = static_cast<char*>(values.mutable_data_ptr());
  const int64_t step = problem.pixels * static_cast<int64_t>(values.element_size()) * (together || problem.split() ? 1 : channels);
  problem.run(dense_kernels().workspace(problem.dense), [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* work, int64_t) {
    dense_kernels().map(problem.at(b), begin, end, work, problem.rows_of(factors, b).data(), out + b * step, &bad[i]);
  });
  refuse_bad_targets(bad, problem.dense);
  return values;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r6, CPU, m) {
  m.impl("dense_fold", TORCH_BOX(&dense_fold));
  m.impl("dense_unfold", TORCH_BOX(&dense_unfold));
  m.impl("dense_once", TORCH_BOX(&dense_once));
  m.impl("dense_map", TORCH_BOX(&dense_map));
}

}  // namespace lossfold

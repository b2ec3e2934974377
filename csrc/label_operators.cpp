// The operators, on LibTorch's stable ABI: check, cut into chunks, run the chunks on torch's threads, add them in order.

#include <tuple>

#include "hardest.h"
#include "histogram.h"
#include "label_problem.h"
#include "levels.h"

namespace lossfold {
namespace {

const LabelKernels& label_kernels() {
#if defined(LOSSFOLD_X86_LEVELS)
  if (level() == Level::v4) return label_kernels_v4;
  if (level() == Level::v3) return label_kernels_v3;
#endif
  return label_kernels_baseline;
}

void refuse_bad_labels(const std::vector<BadLabel>& bad, const Image& image) {
  for (const BadLabel& one : bad)
    STD_TORCH_CHECK(!one.found, "lossfold: label ", one.label, " is out of range [0, ", image.classes,
                    ") and is not ignore_index=", image.ignore_index);
}

// Find the hard pixels, write their mask and add them to the chunks' sums.
template <class Int, class T>
void keep_hard(const LabelProblem& problem, const std::vector<char>& hardness, const HardOptions& options, uint8_t* kept,
               double* parts, int64_t size) {
  const Int* all = reinterpret_cast<const Int*>(hardness.data());
  const int64_t groups = options.per_image ? problem.images : 1, each = problem.images * problem.pixels / std::max<int64_t>(groups, 1);
  std::vector<Int> bounds;
  for (int64_t g = 0; g < groups; ++g) bounds.push_back(hard_bound<Int, T>(all + g * each, each, options));
  const LabelProblem apart = problem.apart();
  apart.run(label_kernels().workspace(apart.image), [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* work, int64_t) {
    label_kernels().keep(apart.at(b), begin, end, work, all + b * problem.pixels, bounds[options.per_image ? b : 0], kept + b * problem.pixels,
                         parts + i * size);
  });
}

std::tuple<Tensor, Tensor, Tensor> label_fold(Tensor scores, Tensor labels, std::optional<Tensor> weight, std::optional<Tensor> maps, int64_t ignore_index,
                                              bool softmax, bool align_corners, std::vector<int64_t> kinds,
                                              std::vector<double> gammas, int64_t bins, bool bins_per_image, double thresh,
                                              int64_t min_kept, double ratio, bool hard_per_image) {
  const LabelProblem problem(scores, labels, weight, maps, {ignore_index, softmax, align_corners, kinds, gammas, bins, !(bins && bins_per_image)});
  const int64_t rows = kinds.size(), classes = problem.image.classes, size = rows * classes, images = problem.images;
  Tensor sums = zero_sums(scores, {images, rows, classes});
  double* const total = static_cast<double*>(sums.mutable_data_ptr());
  const bool whole = problem.chunks() == 1;  // one chunk an image: its sums are the image's
  std::vector<double> chunks(whole ? 0 : images * problem.chunks() * size, 0.0);
  double* const parts = whole ? total : chunks.data();
  std::vector<BadLabel> bad(images * problem.chunks());
  const bool hard = problem.has_hard();
  const int64_t wide = problem.image.score_type == Type::f64 ? 8 : 4;
  std::vector<char> hardness(hard ? images * problem.pixels * wide : 0);
  const bool packed = (!weight || problem.image.weight_type == Type::b8) && problem.longest() < int64_t{1} << 20;
  Histograms histograms(problem, packed, bins_per_image);
  problem.run(label_kernels().workspace(problem.image), [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* work, int64_t worker) {
    void* const at = hard ? hardness.data() + b * problem.pixels * wide : nullptr;
    label_kernels().fold(problem.at(b), begin, end, work, {parts + i * size, histograms.of(worker, b, end - begin), at, thresh}, &bad[i]);
  });
  refuse_bad_labels(bad, problem.image);
  Tensor kept = hard ? torch::stable::new_empty(scores, labels.sizes(), ScalarType::Byte)
                     : torch::stable::new_empty(scores, {0}, ScalarType::Byte);
  if (hard) {
    const HardOptions options{thresh, min_kept, ratio, hard_per_image};
    uint8_t* mask = static_cast<uint8_t*>(kept.mutable_data_ptr());
    if (wide == 8) keep_hard<int64_t, double>(problem, hardness, options, mask, parts, size);
    else keep_hard<int32_t, float>(problem, hardness, options, mask, parts, size);
  }
  for (int64_t b = 0; b < images && !whole; ++b)
    for (int64_t j = 0; j < problem.chunks(); ++j)
      for (int64_t k = 0; k < size; ++k) total[b * size + k] += parts[(b * problem.chunks() + j) * size + k];
  return {sums, histograms.table(scores), kept};
}

Tensor label_unfold(std::optional<Tensor> grad_sums, std::optional<Tensor> grad_table, Tensor kept, Tensor scores, Tensor labels,
                    std::optional<Tensor> weight, std::optional<Tensor> maps, int64_t ignore_index, bool softmax, bool align_corners,
                    std::vector<int64_t> kinds, std::vector<double> gammas, int64_t bins, bool, double, int64_t, double, bool) {
  if (!grad_table) bins = 0;
  const int64_t size = static_cast<int64_t>(kinds.size()) * scores.size(1), images = scores.size(0);
  const Tensor grad = grad_sums ? torch::stable::contiguous(*grad_sums) : torch::stable::new_zeros(scores, {images, size}, ScalarType::Double);
  const bool alike = grad.numel() == images * size && same_for_all(static_cast<const double*>(grad.const_data_ptr()), images, size);
  LabelProblem problem(scores, labels, weight, maps, {ignore_index, softmax, align_corners, kinds, gammas, bins, alike && !(grad_table && grad_table->size(0) > 1)});
  problem.read_kept(&kept);
  STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.numel() == problem.images * size, "lossfold: malformed gradient");
  const Slopes slopes(grad_table, problem, std::vector<double>(bins, static_cast<double>(bins)));
  const double* derivatives = static_cast<const double*>(grad.const_data_ptr());
  return problem.differentiate(label_kernels().workspace(problem.image), [&](int64_t b, int64_t, int64_t begin, int64_t end, void* memory, const GradientLayout& layout, void* out) {
    label_kernels().unfold(problem.at(b), begin, end, memory, derivatives + b * size, slopes.at(problem, b), layout, out, nullptr);
  });
}

std::tuple<Tensor, Tensor> label_once(Tensor scores, Tensor labels, std::optional<Tensor> weight, std::optional<Tensor> maps, Tensor above, std::optional<Tensor> below,
                                      int64_t ignore_index, bool softmax, bool align_corners, std::vector<int64_t> kinds,
                                      std::vector<double> gammas, int64_t, bool, double, int64_t, double, bool) {
  const LabelProblem problem(scores, labels, weight, maps, {ignore_index, softmax, align_corners, kinds, gammas, 0, true});
  const int64_t classes = problem.image.classes, bytes = label_kernels().workspace(problem.image);
  STD_TORCH_CHECK(!problem.has_hard() && !maps && (!below || (below->numel() == classes && below->is_contiguous())), "lossfold: malformed coefficients");
  const std::vector<double> ones(classes, 1.0);
  const double* const factors = below ? static_cast<const double*>(below->const_data_ptr()) : ones.data();
  std::vector<BadLabel> bad(problem.images * problem.chunks());
  const double counted = count_all(problem, bytes, [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* memory) {
    return label_kernels().count(problem.at(b), begin, end, memory, factors, &bad[i]);
  });
  refuse_bad_labels(bad, problem.image);
  const Scaled scaled(above, static_cast<int64_t>(kinds.size()) * classes, below ? counted : 1.0, problem.image.score_type);
  std::vector<double> values(problem.images * problem.chunks(), 0.0);
  Tensor grad = problem.differentiate(bytes, [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* memory, const GradientLayout& layout, void* out) {
    label_kernels().unfold(problem.at(b), begin, end, memory, scaled.coefficients.data(), nullptr, layout, out, &values[i]);
  });
  return {scaled.mean(values, scores), grad};
}

Tensor label_map(Tensor scores, Tensor labels, std::optional<Tensor> weight, std::optional<Tensor> maps, Tensor coef, Tensor kept, int64_t ignore_index,
                 bool softmax, bool align_corners, std::vector<int64_t> kinds, std::vector<double> gammas, int64_t, bool, double,
                 int64_t, double, bool) {
  LabelProblem problem(scores, labels, weight, maps, {ignore_index, softmax, align_corners, kinds, gammas, 0, true});
  problem.read_kept(&kept);
  coef = torch::stable::contiguous(coef);
  STD_TORCH_CHECK(coef.scalar_type() == ScalarType::Double &&
                      coef.numel() == static_cast<int64_t>(kinds.size()) * problem.image.classes,
                  "lossfold: malformed coefficients");
  const auto sizes = labels.sizes();
  Tensor values = torch::stable::new_empty(scores, sizes, problem.image.score_type == Type::f64 ? ScalarType::Double : ScalarType::Float);
  advise_huge_pages(values);
  std::vector<BadLabel> bad(problem.images * problem.chunks());
  const double* factors = static_cast<const double*>(coef.const_data_ptr());
  char* out = static_cast<char*>(values.mutable_data_ptr());
  const int64_t step = problem.pixels * static_cast<int64_t>(values.element_size());
  problem.run(label_kernels().workspace(problem.image), [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* work, int64_t) {
    label_kernels().map(problem.at(b), begin, end, work, factors, out + b * step, &bad[i]);
  });
  refuse_bad_labels(bad, problem.image);
  return values;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r6, CPU, m) {
  m.impl("label_fold", TORCH_BOX(&label_fold));
  m.impl("label_unfold", TORCH_BOX(&label_unfold));
  m.impl("label_once", TORCH_BOX(&label_once));
  m.impl("label_map", TORCH_BOX(&label_map));
}

}  // namespace lossfold

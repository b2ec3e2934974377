// The operators, on LibTorch's stable ABI: check, cut into chunks, run the chunks on torch's threads, add them in order.

#include <mutex>
#include <tuple>

#include "hardest.h"
#include "label_problem.h"

namespace lossfold {
namespace {

const LabelKernels& label_kernels() {
#if defined(LOSSFOLD_X86_LEVELS)
  static const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                         __builtin_cpu_supports("f16c");
  static const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (v4) return label_kernels_v4;
  if (v3) return label_kernels_v3;
#endif
  return label_kernels_baseline;
}

std::string simd_level() {
  const LabelKernels* chosen = &label_kernels();
#if defined(LOSSFOLD_X86_LEVELS)
  if (chosen == &label_kernels_v4) return "x86-64-v4";
  if (chosen == &label_kernels_v3) return "x86-64-v3";
#endif
  return chosen ? "baseline" : "";
}

void refuse_bad_labels(const std::vector<BadLabel>& bad, const LabelImage& image) {
  for (const BadLabel& one : bad)
    STD_TORCH_CHECK(!one.found, "lossfold: label ", one.label, " is out of range [0, ", image.classes,
                    ") and is not ignore_index=", image.ignore_index);
}

// A histogram under construction on one thread; it is added to the whole when the thread is done, or a word might overflow.
class BinsOfThread {
 public:
  BinsOfThread(const LabelImage& image, bool packed, bool per_image, std::vector<long long>* totals, std::mutex* lock)
      : image_(image), per_image_(per_image), totals_(totals), lock_(lock), row_(image.bins + LabelBins::spare) {
    words_.assign(image.bins ? image.classes * 2 * row_ * (packed ? 1 : 2) : 0, 0);
    bins = {words_.data(), packed};
  }
  ~BinsOfThread() { hand_over(); }

  void expect(int64_t b, int64_t pixels) {
    if ((per_image_ && b != owner_) || pixels_ + pixels >= int64_t{1} << 20) hand_over();
    owner_ = b;
    pixels_ += pixels;
  }

  LabelBins bins;

 private:
  // totals: [images or 1, 4, classes, bins + 1], weights times 2^24 and positions times 2^24; the last slot counts NaN.
  void hand_over() {
    if (pixels_ == 0 || words_.empty()) return;
    const std::lock_guard<std::mutex> guard(*lock_);
    const int64_t classes = image_.classes, count = image_.bins, plane = classes * 2 * row_, wide = classes * (count + 1);
    long long* total = totals_->data() + (per_image_ ? owner_ : 0) * 4 * wide;
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t side = 0; side < 2; ++side) {
        const unsigned long long* words = words_.data() + (2 * c + side) * row_;
        long long *weight = total + 2 * side * wide + c * (count + 1), *place = weight + wide;
        for (int64_t j = 0; j < count + LabelBins::not_a_number + 1; ++j) {
          const unsigned long long word = words[j];
          if (word == 0 && (bins.packed || words[plane + j] == 0)) continue;
          const int64_t bin = j < count ? j : j < count + LabelBins::not_a_number ? 0 : count;
          weight[bin] += bins.packed ? static_cast<long long>(word >> LabelBins::count_shift) << 24 : static_cast<long long>(word);
          place[bin] += static_cast<long long>(bins.packed ? word & ((1ull << LabelBins::count_shift) - 1) : words[plane + j]);
          if (bin == count) weight[0] += weight[bin], weight[bin] = 0, place[bin] = 1;  // it counts, and shows in the places
        }
      }
    std::fill(words_.begin(), words_.end(), 0);
    pixels_ = 0;
  }

  const LabelImage image_;
  const bool per_image_;
  std::vector<long long>* totals_;
  std::mutex* lock_;
  const int64_t row_;
  std::vector<unsigned long long> words_;
  int64_t owner_ = 0, pixels_ = 0;
};

// The histogram as numbers: weights, and positions weighted; a class that has met NaN has it in its first bin.
Tensor table_of(const std::vector<long long>& totals, const Tensor& like, int64_t rows, int64_t classes, int64_t bins) {
  Tensor table = torch::stable::new_empty(like, {rows, 4, classes, bins}, ScalarType::Double);
  double* out = static_cast<double*>(table.mutable_data_ptr());
  for (int64_t r = 0; r < rows * 4 * classes; ++r) {
    const long long* row = totals.data() + r * (bins + 1);
    for (int64_t j = 0; j < bins; ++j) out[r * bins + j] = static_cast<double>(row[j]) * 0x1p-24;
    if (row[bins] != 0) out[r * bins] = std::numeric_limits<double>::quiet_NaN();
  }
  return table;
}

// Find the hard pixels, write their mask and add them to the chunks' sums.
template <class Int, class T>
void keep_hard(const LabelProblem& problem, const std::vector<char>& hardness, const HardOptions& options, uint8_t* kept,
               std::vector<double>* parts, int64_t size) {
  const Int* all = reinterpret_cast<const Int*>(hardness.data());
  const int64_t groups = options.per_image ? problem.images : 1, each = problem.images * problem.pixels / std::max<int64_t>(groups, 1);
  std::vector<Int> bounds;
  for (int64_t g = 0; g < groups; ++g) bounds.push_back(hard_bound<Int, T>(all + g * each, each, options));
  problem.run(label_kernels(), [&](const LabelImage& image, int64_t b, int64_t i, int64_t begin, int64_t end, void* work) {
    label_kernels().keep(image, begin, end, work, all + b * problem.pixels, bounds[options.per_image ? b : 0], kept + b * problem.pixels,
                         parts->data() + i * size);
  });
}

std::tuple<Tensor, Tensor, Tensor> label_fold(Tensor scores, Tensor labels, std::optional<Tensor> weight, int64_t ignore_index,
                                              bool softmax, bool align_corners, std::vector<int64_t> kinds,
                                              std::vector<double> gammas, int64_t bins, bool bins_per_image, double thresh,
                                              int64_t min_kept, double ratio, bool hard_per_image) {
  const LabelProblem problem(scores, labels, weight, {ignore_index, softmax, align_corners, kinds, gammas, bins});
  const int64_t rows = kinds.size(), classes = problem.image.classes, size = rows * classes, images = problem.images;
  std::vector<double> parts(images * problem.chunks() * size, 0.0);
  std::vector<BadLabel> bad(images * problem.chunks());
  const bool hard = problem.has_hard();
  const int64_t wide = problem.image.score_type == Type::f64 ? 8 : 4;
  std::vector<char> hardness(hard ? images * problem.pixels * wide : 0);
  const bool packed = (!weight || problem.image.weight_type == Type::u8) && problem.longest() < int64_t{1} << 20;
  const int64_t tables = bins_per_image ? images : 1;
  std::vector<long long> totals(bins ? tables * 4 * classes * (bins + 1) : 0, 0);
  std::mutex lock;
  const auto state = [&] { return BinsOfThread(problem.image, packed, bins_per_image, &totals, &lock); };
  problem.run(label_kernels(), 0, 1, state,
              [&](const LabelImage& image, int64_t b, int64_t i, int64_t begin, int64_t end, void* work, BinsOfThread& mine) {
                mine.expect(b, end - begin);
                void* const at = hard ? hardness.data() + b * problem.pixels * wide : nullptr;
                label_kernels().fold(image, begin, end, work, {parts.data() + i * size, mine.bins, at, thresh}, &bad[i]);
              });
  refuse_bad_labels(bad, problem.image);
  Tensor kept = hard ? torch::stable::new_empty(scores, labels.sizes(), ScalarType::Byte)
                     : torch::stable::new_empty(scores, {0}, ScalarType::Byte);
  if (hard) {
    const HardOptions options{thresh, min_kept, ratio, hard_per_image};
    uint8_t* mask = static_cast<uint8_t*>(kept.mutable_data_ptr());
    if (wide == 8) keep_hard<int64_t, double>(problem, hardness, options, mask, &parts, size);
    else keep_hard<int32_t, float>(problem, hardness, options, mask, &parts, size);
  }
  Tensor sums = torch::stable::new_zeros(scores, {images, rows, classes}, ScalarType::Double);
  double* total = static_cast<double*>(sums.mutable_data_ptr());
  for (int64_t b = 0; b < images; ++b)
    for (int64_t j = 0; j < problem.chunks(); ++j)
      for (int64_t k = 0; k < size; ++k) total[b * size + k] += parts[(b * problem.chunks() + j) * size + k];
  Tensor table = bins ? table_of(totals, scores, tables, classes, bins) : torch::stable::new_empty(scores, {0}, ScalarType::Double);
  return {sums, table, kept};
}

// From the derivatives with respect to the table's positions to the slopes of the errors, for each image or for all:
// [rows, classes, foreground | background, bins].
template <class T>
std::vector<char> slopes_of(const Tensor& grad, int64_t classes, int64_t bins) {
  const int64_t rows = grad.size(0);
  const double* from = static_cast<const double*>(grad.const_data_ptr());
  std::vector<char> memory(rows * classes * 2 * bins * sizeof(T));
  T* to = reinterpret_cast<T*>(memory.data());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t side = 0; side < 2; ++side)
        for (int64_t j = 0; j < bins; ++j)
          *to++ = static_cast<T>(from[((r * 4 + 2 * side + 1) * classes + c) * bins + j] * static_cast<double>(bins));
  return memory;
}

Tensor label_unfold(std::optional<Tensor> grad_sums, std::optional<Tensor> grad_table, Tensor kept, Tensor scores, Tensor labels,
                    std::optional<Tensor> weight, int64_t ignore_index, bool softmax, bool align_corners,
                    std::vector<int64_t> kinds, std::vector<double> gammas, int64_t bins, bool, double, int64_t, double, bool) {
  if (!grad_table) bins = 0;
  LabelProblem problem(scores, labels, weight, {ignore_index, softmax, align_corners, kinds, gammas, bins});
  problem.read_kept(&kept);
  const int64_t classes = problem.image.classes, size = static_cast<int64_t>(kinds.size()) * classes;
  const Tensor grad = grad_sums ? torch::stable::contiguous(*grad_sums)
                                : torch::stable::new_zeros(scores, {problem.images, size}, ScalarType::Double);
  STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.numel() == problem.images * size, "lossfold: malformed gradient");
  std::vector<char> slopes;
  int64_t slopes_step = 0;
  if (grad_table) {
    const Tensor table = torch::stable::contiguous(*grad_table);
    STD_TORCH_CHECK(table.scalar_type() == ScalarType::Double && table.dim() == 4 && table.size(2) == classes && table.size(3) == bins,
                    "lossfold: malformed gradient of the histogram");
    slopes = problem.image.score_type == Type::f64 ? slopes_of<double>(table, classes, bins) : slopes_of<float>(table, classes, bins);
    if (table.size(0) > 1) slopes_step = slopes.size() / table.size(0);
  }
  Tensor result = torch::stable::empty_like(scores);  // keeps the layout of dense scores, channels-last included
  const bool direct = problem.image.resized || LabelProblem::pixel_stride(result).has_value();
  Tensor target = direct ? result : torch::stable::new_empty(scores, scores.sizes());
  advise_huge_pages(target);
  const double* derivatives = static_cast<const double*>(grad.const_data_ptr());
  char* out = static_cast<char*>(target.mutable_data_ptr());
  const int64_t step = target.stride(0) * static_cast<int64_t>(target.element_size());
  const bool large = target.numel() * static_cast<int64_t>(target.element_size()) >= large_result;
  LabelGradient layout{target.stride(1), 0, large, 0, 0};
  if (problem.image.resized) {
    torch::stable::zero_(target);
    layout.row_stride = target.stride(2);
    layout.column_stride = target.stride(3);
  } else {
    layout.pixel_stride = LabelProblem::pixel_stride(target).value();
  }
  const auto work = [&](const LabelImage& image, int64_t b, int64_t, int64_t begin, int64_t end, void* memory, int) {
    label_kernels().unfold(image, begin, end, memory, derivatives + b * size, slopes.empty() ? nullptr : slopes.data() + b * slopes_step,
                           layout, out + b * step);
  };
  // Neighbouring chunks of a resized image add to the row of scores between them: every other chunk, then the rest.
  const int64_t turns = problem.image.resized ? 2 : 1;
  for (int64_t turn = 0; turn < turns; ++turn) problem.run(label_kernels(), turn, turns, [] { return 0; }, work);
  if (!direct) torch::stable::copy_(result, target);
  return result;
}

Tensor label_map(Tensor scores, Tensor labels, std::optional<Tensor> weight, Tensor coef, Tensor kept, int64_t ignore_index,
                 bool softmax, bool align_corners, std::vector<int64_t> kinds, std::vector<double> gammas, int64_t, bool, double,
                 int64_t, double, bool) {
  LabelProblem problem(scores, labels, weight, {ignore_index, softmax, align_corners, kinds, gammas, 0});
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
  problem.run(label_kernels(), [&](const LabelImage& image, int64_t b, int64_t i, int64_t begin, int64_t end, void* work) {
    label_kernels().map(image, begin, end, work, factors, out + b * step, &bad[i]);
  });
  refuse_bad_labels(bad, problem.image);
  return values;
}

}  // namespace

// The numbers after kinds and gammas: bins of the histogram and whether each image has its own; which pixels are hard.
#define LOSSFOLD_SPEC                                                                                                   \
  "int ignore_index, bool softmax, bool align_corners, int[] kinds, float[] gammas, int bins, bool bins_per_image, "    \
  "float thresh, int min_kept, float ratio, bool hard_per_image"

STABLE_TORCH_LIBRARY(lossfold_r2, m) {
  m.def("label_fold(Tensor scores, Tensor labels, Tensor? weight, " LOSSFOLD_SPEC ") -> (Tensor, Tensor, Tensor)");
  m.def("label_unfold(Tensor? grad_sums, Tensor? grad_table, Tensor kept, Tensor scores, Tensor labels, Tensor? weight, " LOSSFOLD_SPEC ") -> Tensor");
  m.def("label_map(Tensor scores, Tensor labels, Tensor? weight, Tensor coef, Tensor kept, " LOSSFOLD_SPEC ") -> Tensor");
  m.def("simd_level() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(lossfold_r2, CPU, m) {
  m.impl("label_fold", TORCH_BOX(&label_fold));
  m.impl("label_unfold", TORCH_BOX(&label_unfold));
  m.impl("label_map", TORCH_BOX(&label_map));
}

STABLE_TORCH_LIBRARY_IMPL(lossfold_r2, CompositeExplicitAutograd, m) { m.impl("simd_level", TORCH_BOX(&simd_level)); }

}  // namespace lossfold

// The operators, on LibTorch's stable ABI: check, cut into chunks, run the chunks on torch's threads, add them in order.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "label_fold.h"

namespace lossfold {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

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

Type type_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double: return Type::f64;
    case ScalarType::Float: return Type::f32;
    case ScalarType::Half: return Type::f16;
    case ScalarType::BFloat16: return Type::bf16;
    case ScalarType::Long: return Type::i64;
    case ScalarType::Int: return Type::i32;
    case ScalarType::Byte:
    case ScalarType::Bool: return Type::u8;
    default: break;
  }
  STD_TORCH_CHECK(false, "lossfold: ", name, " has a dtype that the cpp engine does not read");
}

constexpr int64_t large_result = 16 << 20;  // bytes; beyond the caches of one core

// Page faults of a large fresh result cost more than the arithmetic; huge pages make them 512 times rarer.
void advise_huge_pages(const Tensor& tensor) {
#if defined(__linux__)
  constexpr size_t page = 2u << 20;
  const size_t bytes = tensor.numel() * tensor.element_size();
  if (bytes < 2 * page) return;
  const size_t start = reinterpret_cast<size_t>(tensor.mutable_data_ptr());
  const size_t first = (start + page - 1) / page * page, last = (start + bytes) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// scores [B, C, *S] whose space can be walked with one stride, labels and weight [B, *S].
struct LabelProblem {
  Tensor scores, labels;
  std::optional<Tensor> weight;
  std::vector<Sum> kinds;
  std::vector<double> gammas;
  LabelImage image;
  int64_t images, pixels, batch_stride, chunk, chunks;

  LabelProblem(Tensor scores_, const Tensor& labels_, const std::optional<Tensor>& weight_, int64_t ignore_index, bool softmax,
               const std::vector<int64_t>& kinds_, const std::vector<double>& gammas_)
      : scores(walkable(scores_)), labels(torch::stable::contiguous(labels_)), gammas(gammas_) {
    if (weight_) weight = torch::stable::contiguous(*weight_);
    STD_TORCH_CHECK(scores.dim() >= 2 && kinds_.size() == gammas_.size() && kinds_.size() <= 64, "lossfold: malformed label fold");
    for (int64_t kind : kinds_) {
      STD_TORCH_CHECK(kind >= 0 && kind < static_cast<int64_t>(Sum::count), "lossfold: unknown sum ", kind);
      kinds.push_back(static_cast<Sum>(kind));
    }
    images = scores.size(0);
    pixels = 1;
    for (int64_t d = 2; d < scores.dim(); ++d) pixels *= scores.size(d);
    STD_TORCH_CHECK(labels.numel() == images * pixels && (!weight || weight->numel() == labels.numel()) && scores.size(1) > 0,
                    "lossfold: sizes of scores, labels and weight differ");
    batch_stride = scores.stride(0);
    image.score_type = type_of(scores, "scores");
    image.label_type = type_of(labels, "labels");
    image.weight_type = weight ? type_of(*weight, "weight") : Type::u8;
    STD_TORCH_CHECK(image.score_type <= Type::bf16 && image.label_type >= Type::i64, "lossfold: dtypes of scores or labels");
    image.class_stride = scores.stride(1);
    image.pixel_stride = pixel_stride(scores).value();
    image.classes = scores.size(1);
    image.pixels = pixels;
    image.ignore_index = ignore_index;
    image.softmax = softmax;
    image.sums = static_cast<int>(kinds.size());
    image.kinds = kinds.data();
    image.gammas = gammas.data();
    // Chunks follow the shape alone, so that sums are the same bits on any number of threads.
    const int64_t most = std::max<int64_t>(1, 512 / std::max<int64_t>(1, images));
    const int64_t wanted = std::clamp<int64_t>((pixels + 8191) / 8192, 1, most);
    chunk = ((pixels + wanted - 1) / wanted + 1023) / 1024 * 1024;
    chunks = pixels == 0 ? 0 : (pixels + chunk - 1) / chunk;
  }

  // The stride that walks all of space in order, if there is one.
  static std::optional<int64_t> pixel_stride(const Tensor& tensor) {
    if (tensor.numel() == 0) return 1;
    std::optional<int64_t> step;
    int64_t span = 0;  // what the next dimension's stride has to be
    for (int64_t d = tensor.dim() - 1; d >= 2; --d) {
      if (tensor.size(d) == 1) continue;
      if (!step) step = span = tensor.stride(d);
      if (tensor.stride(d) != span) return std::nullopt;
      span *= tensor.size(d);
    }
    return step.value_or(1);
  }
  static Tensor walkable(const Tensor& tensor) { return pixel_stride(tensor) ? tensor : torch::stable::contiguous(tensor); }

  LabelImage at(int64_t b) const {
    LabelImage one = image;
    one.scores = offset(scores, b * batch_stride);
    one.labels = offset(labels, b * pixels);
    one.weight = weight ? offset(*weight, b * pixels) : nullptr;
    return one;
  }
  static const void* offset(const Tensor& tensor, int64_t elements) {
    return static_cast<const char*>(tensor.const_data_ptr()) + elements * static_cast<int64_t>(tensor.element_size());
  }

  // work(image, b, chunk index, begin, end, workspace) for every chunk.
  template <class Work>
  void run(const Work& work) const {
    const int64_t bytes = label_kernels().workspace(image) + 64;
    torch::stable::parallel_for(0, images * chunks, 1, [&](int64_t from, int64_t to) {
      std::unique_ptr<char[]> memory(new char[bytes]);
      char* aligned = reinterpret_cast<char*>((reinterpret_cast<size_t>(memory.get()) + 63) / 64 * 64);
      for (int64_t i = from; i < to; ++i) {
        const int64_t b = i / chunks, begin = i % chunks * chunk;
        work(at(b), b, i, begin, std::min(pixels, begin + chunk), aligned);
      }
    });
  }
};

void refuse_bad_labels(const std::vector<BadLabel>& bad, const LabelImage& image) {
  for (const BadLabel& one : bad)
    STD_TORCH_CHECK(!one.found, "lossfold: label ", one.label, " is out of range [0, ", image.classes,
                    ") and is not ignore_index=", image.ignore_index);
}

Tensor label_fold(Tensor scores, Tensor labels, std::optional<Tensor> weight, int64_t ignore_index, bool softmax,
                  std::vector<int64_t> kinds, std::vector<double> gammas) {
  const LabelProblem problem(scores, labels, weight, ignore_index, softmax, kinds, gammas);
  const int64_t rows = kinds.size(), classes = problem.image.classes, size = rows * classes;
  std::vector<double> parts(problem.images * problem.chunks * size, 0.0);
  std::vector<BadLabel> bad(problem.images * problem.chunks);
  problem.run([&](const LabelImage& image, int64_t, int64_t i, int64_t begin, int64_t end, void* work) {
    label_kernels().fold(image, begin, end, work, parts.data() + i * size, &bad[i]);
  });
  refuse_bad_labels(bad, problem.image);
  Tensor sums = torch::stable::new_zeros(scores, {problem.images, rows, classes}, ScalarType::Double);
  double* total = static_cast<double*>(sums.mutable_data_ptr());
  for (int64_t b = 0; b < problem.images; ++b)
    for (int64_t j = 0; j < problem.chunks; ++j)
      for (int64_t k = 0; k < size; ++k) total[b * size + k] += parts[(b * problem.chunks + j) * size + k];
  return sums;
}

Tensor label_unfold(Tensor grad, Tensor scores, Tensor labels, std::optional<Tensor> weight, int64_t ignore_index, bool softmax,
                    std::vector<int64_t> kinds, std::vector<double> gammas) {
  const LabelProblem problem(scores, labels, weight, ignore_index, softmax, kinds, gammas);
  const int64_t size = static_cast<int64_t>(kinds.size()) * problem.image.classes;
  grad = torch::stable::contiguous(grad);
  STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.numel() == problem.images * size, "lossfold: malformed gradient");
  Tensor result = torch::stable::empty_like(scores);  // keeps the layout of dense scores, channels-last included
  const bool direct = LabelProblem::pixel_stride(result).has_value();
  Tensor target = direct ? result : torch::stable::new_empty(scores, scores.sizes());
  advise_huge_pages(target);
  const double* derivatives = static_cast<const double*>(grad.const_data_ptr());
  char* out = static_cast<char*>(target.mutable_data_ptr());
  const int64_t step = target.stride(0) * static_cast<int64_t>(target.element_size());
  const bool large = target.numel() * static_cast<int64_t>(target.element_size()) >= large_result;
  const LabelGradient layout{target.stride(1), LabelProblem::pixel_stride(target).value(), large};
  problem.run([&](const LabelImage& image, int64_t b, int64_t, int64_t begin, int64_t end, void* work) {
    label_kernels().unfold(image, begin, end, work, derivatives + b * size, layout, out + b * step);
  });
  if (!direct) torch::stable::copy_(result, target);
  return result;
}

Tensor label_map(Tensor scores, Tensor labels, std::optional<Tensor> weight, Tensor coef, int64_t ignore_index, bool softmax,
                 std::vector<int64_t> kinds, std::vector<double> gammas) {
  const LabelProblem problem(scores, labels, weight, ignore_index, softmax, kinds, gammas);
  coef = torch::stable::contiguous(coef);
  STD_TORCH_CHECK(coef.scalar_type() == ScalarType::Double &&
                      coef.numel() == static_cast<int64_t>(kinds.size()) * problem.image.classes,
                  "lossfold: malformed coefficients");
  const auto sizes = labels.sizes();
  Tensor values = torch::stable::new_empty(scores, sizes, problem.image.score_type == Type::f64 ? ScalarType::Double : ScalarType::Float);
  advise_huge_pages(values);
  std::vector<BadLabel> bad(problem.images * problem.chunks);
  const double* factors = static_cast<const double*>(coef.const_data_ptr());
  char* out = static_cast<char*>(values.mutable_data_ptr());
  const int64_t step = problem.pixels * static_cast<int64_t>(values.element_size());
  problem.run([&](const LabelImage& image, int64_t b, int64_t i, int64_t begin, int64_t end, void* work) {
    label_kernels().map(image, begin, end, work, factors, out + b * step, &bad[i]);
  });
  refuse_bad_labels(bad, problem.image);
  return values;
}

}  // namespace

STABLE_TORCH_LIBRARY(lossfold_r1, m) {
  m.def("label_fold(Tensor scores, Tensor labels, Tensor? weight, int ignore_index, bool softmax, int[] kinds, float[] gammas) -> Tensor");
  m.def("label_unfold(Tensor grad, Tensor scores, Tensor labels, Tensor? weight, int ignore_index, bool softmax, int[] kinds, float[] gammas) -> Tensor");
  m.def("label_map(Tensor scores, Tensor labels, Tensor? weight, Tensor coef, int ignore_index, bool softmax, int[] kinds, float[] gammas) -> Tensor");
  m.def("simd_level() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(lossfold_r1, CPU, m) {
  m.impl("label_fold", TORCH_BOX(&label_fold));
  m.impl("label_unfold", TORCH_BOX(&label_unfold));
  m.impl("label_map", TORCH_BOX(&label_map));
}

STABLE_TORCH_LIBRARY_IMPL(lossfold_r1, CompositeExplicitAutograd, m) { m.impl("simd_level", TORCH_BOX(&simd_level)); }

}  // namespace lossfold

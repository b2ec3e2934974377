// One call of the label fold: what its tensors hold, and how it is cut into chunks that run on torch's threads.
#pragma once

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

struct LabelOptions {
  int64_t ignore_index;
  bool softmax, align_corners;
  std::vector<int64_t> kinds;
  std::vector<double> gammas;
  int64_t bins;
};

// Where a label row's first row of scores is; rows with the same node belong together.
inline int64_t node_of(int64_t row, const LabelGrid& grid) {
  double at = 0;
  if (!grid.align_corners) at = (row + 0.5) * grid.score_rows / grid.rows - 0.5;
  else if (grid.rows > 1) at = static_cast<double>(row) * (grid.score_rows - 1) / (grid.rows - 1);
  return std::clamp<int64_t>(static_cast<int64_t>(at), 0, grid.score_rows - 1);
}

// scores [B, C, *S] whose space can be walked with one stride, labels and weight [B, *S]; or scores [B, C, h, w] of any strides
// and labels [B, H, W].
struct LabelProblem {
  Tensor scores, labels;
  std::optional<Tensor> weight;
  std::vector<Sum> kinds;
  std::vector<double> gammas;
  LabelImage image;
  const uint8_t* kept = nullptr;
  int64_t images, pixels, batch_stride;
  std::vector<int64_t> edges;  // of the chunks of an image

  LabelProblem(Tensor scores_, const Tensor& labels_, const std::optional<Tensor>& weight_, const LabelOptions& options)
      : scores(resizes(scores_, labels_) ? scores_ : walkable(scores_)), labels(torch::stable::contiguous(labels_)),
        gammas(options.gammas) {
    if (weight_) weight = torch::stable::contiguous(*weight_);
    STD_TORCH_CHECK(scores.dim() >= 2 && options.kinds.size() == gammas.size() && gammas.size() <= 64, "lossfold: malformed label fold");
    for (int64_t kind : options.kinds) {
      STD_TORCH_CHECK(kind >= 0 && kind < static_cast<int64_t>(Sum::count), "lossfold: unknown sum ", kind);
      kinds.push_back(static_cast<Sum>(kind));
    }
    images = scores.size(0);
    pixels = 1;
    image.resized = resizes(scores, labels);
    for (int64_t d = 2; d < scores.dim(); ++d) pixels *= image.resized ? labels.size(d - 1) : scores.size(d);
    STD_TORCH_CHECK(labels.numel() == images * pixels && (!weight || weight->numel() == labels.numel()) && scores.size(1) > 0,
                    "lossfold: sizes of scores, labels and weight differ");
    batch_stride = scores.stride(0);
    image.score_type = type_of(scores, "scores");
    image.label_type = type_of(labels, "labels");
    image.weight_type = weight ? type_of(*weight, "weight") : Type::u8;
    STD_TORCH_CHECK(image.score_type <= Type::bf16 && image.label_type >= Type::i64, "lossfold: dtypes of scores or labels");
    image.class_stride = scores.stride(1);
    image.pixel_stride = image.resized ? 0 : pixel_stride(scores).value();
    image.classes = scores.size(1);
    image.pixels = pixels;
    image.ignore_index = options.ignore_index;
    image.softmax = options.softmax;
    image.sums = static_cast<int>(kinds.size());
    image.kinds = kinds.data();
    image.gammas = gammas.data();
    image.kept = nullptr;
    image.bins = static_cast<int>(options.bins);
    if (image.resized)
      image.grid = {labels.size(1), labels.size(2), scores.size(2), scores.size(3), scores.stride(2), scores.stride(3), options.align_corners};
    cut();
  }

  // Chunks follow the shape alone, so that sums are the same bits on any number of threads.
  void cut() {
    const int64_t most = std::max<int64_t>(1, 512 / std::max<int64_t>(1, images));
    const int64_t wanted = std::clamp<int64_t>((pixels + 8191) / 8192, 1, most);
    edges = {0};
    if (!image.resized) {
      const int64_t chunk = ((pixels + wanted - 1) / wanted + 1023) / 1024 * 1024;
      while (edges.back() < pixels) edges.push_back(std::min(pixels, edges.back() + chunk));
      return;
    }
    const int64_t rows = std::max<int64_t>(1, image.grid.rows / wanted);
    for (int64_t row = 1, last = 0; row < image.grid.rows; ++row)
      if (row - last >= rows && node_of(row, image.grid) != node_of(row - 1, image.grid))
        edges.push_back((last = row) * image.grid.columns);
    edges.push_back(pixels);
  }
  int64_t chunks() const { return static_cast<int64_t>(edges.size()) - 1; }
  int64_t longest() const {
    int64_t most = 0;
    for (int64_t i = 0; i < chunks(); ++i) most = std::max(most, edges[i + 1] - edges[i]);
    return most;
  }

  bool has_hard() const {
    return std::any_of(kinds.begin(), kinds.end(), [](Sum kind) { return kind == Sum::hard_weight || kind == Sum::hard_nll; });
  }
  void read_kept(const Tensor* mask) {
    STD_TORCH_CHECK(!has_hard() || (mask->numel() == images * pixels && mask->scalar_type() == ScalarType::Byte && mask->is_contiguous()),
                    "lossfold: malformed mask of hard pixels");
    if (has_hard()) kept = static_cast<const uint8_t*>(mask->const_data_ptr());
  }

  static bool resizes(const Tensor& scores, const Tensor& labels) {
    return scores.dim() == 4 && labels.dim() == 3 && (scores.size(2) != labels.size(1) || scores.size(3) != labels.size(2));
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
    one.kept = kept ? kept + b * pixels : nullptr;
    return one;
  }
  static const void* offset(const Tensor& tensor, int64_t elements) {
    return static_cast<const char*>(tensor.const_data_ptr()) + elements * static_cast<int64_t>(tensor.element_size());
  }

  // work(image, b, chunk index, begin, end, workspace, state) for every step-th chunk from `first`; each thread makes a state.
  template <class State, class Work>
  void run(const LabelKernels& kernels, int64_t first, int64_t step, const State& state, const Work& work) const {
    const int64_t bytes = kernels.workspace(image) + 64, each = (chunks() - first + step - 1) / step;
    torch::stable::parallel_for(0, images * std::max<int64_t>(each, 0), 1, [&](int64_t from, int64_t to) {
      std::unique_ptr<char[]> memory(new char[bytes]);
      char* aligned = reinterpret_cast<char*>((reinterpret_cast<size_t>(memory.get()) + 63) / 64 * 64);
      auto mine = state();
      for (int64_t i = from; i < to; ++i) {
        const int64_t b = i / each, j = first + i % each * step;
        work(at(b), b, b * chunks() + j, edges[j], edges[j + 1], aligned, mine);
      }
    });
  }
  template <class Work>
  void run(const LabelKernels& kernels, const Work& work) const {
    run(kernels, 0, 1, [] { return 0; }, [&](const LabelImage& one, int64_t b, int64_t i, int64_t begin, int64_t end, void* memory, int) {
      work(one, b, i, begin, end, memory);
    });
  }
};

}  // namespace
}  // namespace lossfold

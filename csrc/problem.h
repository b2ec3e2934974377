// One call of a fold: what its scores hold, and how it is cut into chunks.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "fold.h"
#include "parallel.h"
#include "place.h"

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
    case ScalarType::Byte: return Type::u8;
    case ScalarType::Bool: return Type::b8;
    default: break;
  }
  STD_TORCH_CHECK(false, "lossfold: ", name, " has a dtype that the cpp engine does not read");
}

// The sizes of a tensor from dimension `first` on.
std::vector<int64_t> space_of(const Tensor& tensor, int64_t first) {
  std::vector<int64_t> space;
  for (int64_t d = first; d < tensor.dim(); ++d) space.push_back(tensor.size(d));
  return space;
}

constexpr int64_t large_result = 16 << 20;  // bytes; beyond the caches of one core

// Page faults of large fresh memory cost more than the arithmetic; huge pages make them 512 times rarer.
void advise_huge_pages(void* memory, size_t bytes) {
#if defined(__linux__)
  constexpr size_t page = 2u << 20;
  if (bytes < 2 * page) return;
  const size_t start = reinterpret_cast<size_t>(memory);
  const size_t first = (start + page - 1) / page * page, last = (start + bytes) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}
void advise_huge_pages(const Tensor& tensor) { advise_huge_pages(tensor.mutable_data_ptr(), tensor.numel() * tensor.element_size()); }

// The edges of about `wanted` runs of label rows or planes. Those with the same node belong together.
inline std::vector<int64_t> cut_at_nodes(int64_t labels, int64_t scores, bool align_corners, int64_t wanted) {
  const auto node = [&](int64_t i) { return locate(i, labels, scores, align_corners).node; };
  const int64_t least = std::max<int64_t>(1, labels / wanted);
  std::vector<int64_t> edges = {0};
  for (int64_t i = 1; i < labels; ++i)
    if (i - edges.back() >= least && node(i) != node(i - 1)) edges.push_back(i);
  edges.push_back(labels);
  return edges;
}

// Scores [B, C, *S] whose space can be walked with one stride; or [B, C, h, w] or [B, C, d, h, w] of any strides, where the
// targets' space is of another size. Where `may_split` is set, each channel may be an image of its own, [B C, 1, *S]; where
// `may_join` is, many small images lie side by side in a block, each with sums of its own.
struct Problem {
  Tensor scores;
  Image image;
  int64_t batch, images, pixels, channels;      // channels: of the scores; images: batch, or batch * channels
  std::vector<int64_t> planes = {0, 1}, edges;  // a chunk lies between two planes of a volume, and in each between two edges
  int64_t joined = 0;                           // images of a chunk, where they lie side by side

  Problem(const Tensor& scores_, const std::vector<int64_t>& space, bool align_corners, bool may_split, bool may_join)
      : scores(resizes(scores_, space) ? scores_ : walkable(scores_)) {
    STD_TORCH_CHECK(scores.dim() >= 2 && scores.size(1) > 0 && static_cast<int64_t>(space.size()) == scores.dim() - 2, "lossfold: malformed scores");
    image.resized = resizes(scores, space);
    batch = scores.size(0);
    channels = scores.size(1);
    pixels = 1;
    for (int64_t d = 0; d < static_cast<int64_t>(space.size()); ++d) {
      STD_TORCH_CHECK(image.resized || space[d] == scores.size(d + 2), "lossfold: sizes of scores and targets differ");
      pixels *= space[d];
    }
    image.score_type = type_of(scores, "scores");
    STD_TORCH_CHECK(image.score_type <= Type::bf16, "lossfold: the dtype of the scores");
    image.labels = image.weight = nullptr;
    image.label_type = image.weight_type = Type::u8;
    image.class_stride = scores.stride(1);
    image.pixel_stride = image.resized ? 0 : pixel_stride(scores).value();
    image.pixels = pixels;
    image.classes = channels;
    image.abreast = may_join && !image.resized ? abreast() : 0;
    image.image_stride = scores.stride(0);
    image.sums_stride = 0;
    joined = image.abreast ? std::max<int64_t>(1, 8192 / (image.abreast * pixels)) * image.abreast : 0;
    may_split = may_split && !image.abreast;
    // Channels that do not meet are best walked one by one, unless they lie beside each other in memory.
    const bool split = may_split && (image.resized ? scores.stride(scores.dim() - 1) == 1 : image.pixel_stride == 1);
    images = split ? batch * channels : batch;
    image.classes = split ? 1 : channels;
    image.ignore_index = 0;
    image.softmax = false;
    image.sums = image.bins = 0;
    image.block = may_split ? 512 : 0;  // the same however channels are walked, so that sums are the same bits
    image.kinds = nullptr;
    image.gammas = nullptr;
    image.kept = nullptr;
    image.maps = nullptr;
    image.map_type = Type::f32;
    if (image.resized) {
      const int64_t rows = scores.dim() - 2, columns = rows + 1;  // the scores' dimensions
      image.grid = {volume() ? space[0] : 1, space[rows - 2], space[columns - 2], volume() ? scores.size(2) : 1, scores.size(rows), scores.size(columns),
                    volume() ? scores.stride(2) : 0, scores.stride(rows), scores.stride(columns), align_corners};
    }
    cut(may_split ? batch * channels : batch);
  }

  // How many images lie side by side in a block: none, unless they are many and so small that a block of one, or of its vectors,
  // would be mostly empty. A block's rows are about as long as otherwise.
  int64_t abreast() const {
    const int64_t size = image.score_type == Type::f64 ? 8 : 4, usual = std::clamp<int64_t>(24 * 1024 / size / channels / 64 * 64, 64, 1024);
    if (batch < 16 || pixels == 0 || pixels >= 64 || (pixels >= 16 && 16 * pixels > usual) || 16 * pixels * channels * size > 1 << 20) return 0;
    return std::min(std::max<int64_t>(1, usual / (16 * pixels)), (batch + 15) / 16) * 16;
  }

  // Chunks follow the shape alone, so that sums are the same bits on any number of threads.
  void cut(int64_t rows_of_chunks) {
    const int64_t most = std::max<int64_t>(1, 512 / std::max<int64_t>(1, rows_of_chunks));
    const bool many = !image.resized && image.block == 0 && image.classes > 32;  // long pixels: fewer of them
    const int64_t size = many ? std::max<int64_t>(64, 32 * 8192 / image.classes / 64 * 64) : 8192, unit = std::min<int64_t>(size, 1024);
    const int64_t wanted = std::clamp<int64_t>((pixels + size - 1) / size, 1, most);
    if (!image.resized) {
      edges = {0};
      const int64_t chunk = ((pixels + wanted - 1) / wanted + unit - 1) / unit * unit;
      while (edges.back() < pixels) edges.push_back(std::min(pixels, edges.back() + chunk));
      return;
    }
    const GridShape& grid = image.grid;
    planes = cut_at_nodes(grid.planes, grid.score_planes, grid.align_corners, wanted);
    edges = cut_at_nodes(grid.rows, grid.score_rows, grid.align_corners, std::max<int64_t>(1, wanted / slabs()));
    for (int64_t& edge : edges) edge *= grid.columns;
  }
  bool volume() const { return scores.dim() == 5; }
  int64_t slabs() const { return static_cast<int64_t>(planes.size()) - 1; }
  int64_t strips() const { return static_cast<int64_t>(edges.size()) - 1; }
  int64_t chunks() const { return slabs() * strips(); }
  int64_t longest() const {  // of what a kernel gets at a time
    int64_t most = 0;
    for (int64_t i = 0; i < strips(); ++i) most = std::max(most, edges[i + 1] - edges[i]);
    return std::max(most, joined * pixels);
  }

  // The map of a call, if there is one, contiguous.
  std::optional<Tensor> take_maps(const std::optional<Tensor>& maps, bool wanted) {
    STD_TORCH_CHECK(maps || !wanted, "lossfold: sums of a map without one");
    if (!maps) return std::nullopt;
    const Tensor found = torch::stable::contiguous(*maps);
    image.map_type = type_of(found, "map");
    STD_TORCH_CHECK(found.numel() == batch * channels * pixels && (image.map_type <= Type::bf16 || image.map_type >= Type::u8), "lossfold: malformed map");
    image.maps = found.const_data_ptr();  // of the first image; says that there is one
    return found;
  }

  bool split() const { return images != batch; }
  int64_t sample(int64_t i) const { return split() ? i / channels : i; }  // of an image
  int64_t channel(int64_t i) const { return split() ? i % channels : 0; }

  static bool resizes(const Tensor& scores, const std::vector<int64_t>& space) {
    const int64_t axes = space.size();
    bool other = false;
    for (int64_t d = 0; d < axes && scores.dim() == axes + 2; ++d) other |= scores.size(d + 2) != space[d];
    return other && (axes == 2 || axes == 3);
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

  // Where an image starts, in elements.
  int64_t start_of(const Tensor& tensor, int64_t i) const { return sample(i) * tensor.stride(0) + channel(i) * tensor.stride(1); }
  static const void* offset(const Tensor& tensor, int64_t elements) {
    return static_cast<const char*>(tensor.const_data_ptr()) + elements * static_cast<int64_t>(tensor.element_size());
  }

  int64_t workers() const { return workers_for(joined ? (images + joined - 1) / joined : images * chunks(), images * pixels * image.classes); }

  // work(image, chunk, begin, end, workspace, worker) for every step-th slab of planes from `slab`, and in it for every step-th
  // chunk from `strip`: of a volume once for each plane. A chunk of images side by side is that of the first one, and its pixels
  // are those of all.
  template <class Work>
  void run(int64_t bytes, int64_t slab, int64_t strip, int64_t step, const Work& work) const {
    const int64_t across = (strips() - strip + step - 1) / step, each = (slabs() - slab + step - 1) / step * across;
    if (joined)
      return in_parallel((images + joined - 1) / joined, workers(), bytes, [&](int64_t piece, char* memory, int64_t worker) {
        const int64_t b = piece * joined;
        work(b, b, 0, std::min(joined, images - b) * pixels, memory, worker);
      });
    in_parallel(images * each, workers(), bytes, [&](int64_t piece, char* memory, int64_t worker) {
      const int64_t b = piece / each, j = slab + piece % each / across * step, k = strip + piece % each % across * step;
      for (int64_t z = planes[j]; z < planes[j + 1]; ++z)
        work(b, b * chunks() + j * strips() + k, z * edges.back() + edges[k], z * edges.back() + edges[k + 1], memory, worker);
    });
  }
  template <class Work>
  void run(int64_t bytes, const Work& work) const {
    run(bytes, 0, 0, 1, work);
  }

  // Make the gradient of the scores: write(b, i, begin, end, memory, layout, where it goes) writes it for a chunk, i as in run.
  template <class Write>
  Tensor differentiate(int64_t bytes, const Write& write) const {
    Tensor result = torch::stable::empty_like(scores);  // keeps the layout of dense scores, channels-last included
    // Strips and planes of labels add to the scores between them: in half precision each time would round.
    const bool wide = image.resized && (image.score_type == Type::f16 || image.score_type == Type::bf16);
    const bool direct = !wide && (image.resized || pixel_stride(result).has_value());
    Tensor target = direct ? result : torch::stable::new_empty(scores, scores.sizes(), wide ? ScalarType::Float : scores.scalar_type());
    advise_huge_pages(target);
    const int64_t size = target.element_size();
    GradientLayout layout{target.stride(1), 0, target.numel() * size >= large_result, 0, 0, target.stride(0), 0, wide ? Type::f32 : image.score_type};
    if (image.resized) {
      torch::stable::zero_(target);
      layout.plane_stride = volume() ? target.stride(2) : 0;
      layout.row_stride = target.stride(target.dim() - 2);
      layout.column_stride = target.stride(target.dim() - 1);
    } else {
      layout.pixel_stride = pixel_stride(target).value();
    }
    char* out = static_cast<char*>(target.mutable_data_ptr());
    const auto work = [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* memory, int64_t) {
      write(b, i, begin, end, memory, layout, out + start_of(target, b) * size);
    };
    // Neighbouring chunks of a resized image add to the row or the plane of scores between them: every other one, then the rest.
    const int64_t step = image.resized ? 2 : 1;
    for (int64_t slab = 0; slab < std::min(step, slabs()); ++slab)
      for (int64_t strip = 0; strip < std::min(step, strips()); ++strip) run(bytes, slab, strip, step, work);
    if (!direct) torch::stable::copy_(result, target);
    return result;
  }
};

// What a mean is divided by: the sum of count(b, i, begin, end, memory) over the chunks, added in order.
template <class Count>
double count_all(const Problem& problem, int64_t bytes, const Count& count) {
  std::vector<double> parts(problem.images * problem.chunks(), 0.0);
  problem.run(bytes, [&](int64_t b, int64_t i, int64_t begin, int64_t end, void* memory, int64_t) { parts[i] += count(b, i, begin, end, memory); });
  return std::accumulate(parts.begin(), parts.end(), 0.0);
}

// A loss of scores, of their dtype or float.
Tensor scalar(double value, const Tensor& scores) {
  const bool wide = scores.scalar_type() == ScalarType::Double;
  Tensor result = torch::stable::new_empty(scores, std::vector<int64_t>{}, wide ? ScalarType::Double : ScalarType::Float);
  if (wide) *static_cast<double*>(result.mutable_data_ptr()) = value;
  else *static_cast<float*>(result.mutable_data_ptr()) = static_cast<float>(value);
  return result;
}

// A loss's coefficients of its sums, each times the same factor, so that the loss is the mean: the factor is one that scores'
// type holds, so that nothing but the factor is rounded, and the value makes up for it.
struct Scaled {
  double divisor, factor;
  std::vector<double> coefficients;

  Scaled(const Tensor& above, int64_t size, double divisor_, Type type) : divisor(divisor_ == 0 ? 1 : divisor_), factor(static_cast<float>(1 / divisor)) {
    STD_TORCH_CHECK(above.scalar_type() == ScalarType::Double && above.numel() == size && above.is_contiguous(), "lossfold: malformed coefficients");
    const double* from = static_cast<const double*>(above.const_data_ptr());
    if (type == Type::f64 || !(std::abs(factor) >= 0x1p-126 && std::abs(factor) < 0x1p128)) factor = 1 / divisor;
    for (int64_t k = 0; k < size; ++k) coefficients.push_back(from[k] * factor);
  }
  // The mean from the chunks' values, beside scores.
  Tensor mean(const std::vector<double>& values, const Tensor& scores) const {
    return scalar(std::accumulate(values.begin(), values.end(), 0.0) / (factor * divisor), scores);
  }
};

// Sums of images, in double, that begin at 0.
Tensor zero_sums(const Tensor& like, const std::vector<int64_t>& sizes) {
  Tensor sums = torch::stable::new_empty(like, sizes, ScalarType::Double);
  advise_huge_pages(sums);
  std::memset(sums.mutable_data_ptr(), 0, sums.numel() * sizeof(double));
  return sums;
}

// Whether each of the images has the same numbers, `size` of them.
bool same_for_all(const double* numbers, int64_t images, int64_t size) {
  for (int64_t b = 1; b < images; ++b)
    if (std::memcmp(numbers, numbers + b * size, size * sizeof(double)) != 0) return false;
  return true;
}

}  // namespace
}  // namespace lossfold

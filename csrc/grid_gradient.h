// The way back from label resolution: a block's gradient is added to the two rows of scores around its label rows, still
// stretched along x (above, below), and a finished row goes back along x into the gradient of the scores: of both planes
// around a label plane, each with its share.
#pragma once

#include "grid.h"

namespace lossfold {
namespace {

template <class T>
struct GridGradient {
  using V = typename Lanes<T>::V;
  using Loose = typename Lanes<T>::Loose;
  static constexpr long lanes = Lanes<T>::width;
  const Grid<T>& grid;
  const Image& image;
  const GradientLayout& layout;
  void* out;               // the gradient of the scores
  T *above, *below;        // [classes, span]
  T *low, *low_next;       // a piece of a row of scores; what of it belongs one node further

  GridGradient(const Grid<T>& grid_, const GradientLayout& layout_, void* out_, Arena& arena)
      : grid(grid_), image(grid.image), layout(layout_), out(out_) {
    T** const planes[] = {&above, &below};
    for (T** plane : planes) {
      *plane = arena.take<T>(image.classes * grid.span);
      for (long i = 0; i < image.classes * grid.span; ++i) (*plane)[i] = 0;
    }
    low = arena.take<T>(image.grid.score_columns + 64);
    low_next = arena.take<T>(image.grid.score_columns + 64);
  }
  static long bytes(const Image& image) {
    if (!image.resized) return 0;
    const long wide = 2 * image.classes * (block_pixels<T>(image) + 32) + 2 * image.grid.score_columns + 256;
    return wide * (long)sizeof(T) + 8 * alignment;
  }
  LOSSFOLD_INLINE V& at(T* row, long i) const { return *(V*)(row + i); }

  // Add a block of R label rows, of which slope(c, i) gives a vector of the gradient.
  template <long R, class Slope>
  LOSSFOLD_INLINE void add_rows(Slope slope) const {
    for (long c = 0; c < image.classes; ++c)
      for (long x = 0; x < grid.columns; x += lanes) {
        const long k = c * grid.span + x;
        V up = at(above, k), down = at(below, k);
        for (long r = 0; r < R; ++r) {
          const V dz = slope(c, r * grid.columns + x);
          up += grid.v[r] * dz;
          down += grid.u[r] * dz;
        }
        at(above, k) = up;
        at(below, k) = down;
      }
  }

  // Add a block of `rows` label rows; fix is what the label's own class gets besides, if anything.
  template <class Slope>
  LOSSFOLD_INLINE void add(long rows, Slope slope, const T* fix) const {
    switch (rows) {
      case 1: add_rows<1>(slope); break;
      case 2: add_rows<2>(slope); break;
      case 3: add_rows<3>(slope); break;
      case 4: add_rows<4>(slope); break;
      case 5: add_rows<5>(slope); break;
      case 6: add_rows<6>(slope); break;
      case 7: add_rows<7>(slope); break;
      default: add_rows<8>(slope);
    }
    if (!fix) return;
    for (long r = 0; r < rows; ++r)
      for (long x = 0; x < grid.columns; ++x) {
        const long i = r * grid.columns + x, k = grid.block.label[i] * grid.span + x;
        above[k] += grid.v[r] * fix[i];
        below[k] += grid.u[r] * fix[i];
      }
  }

  // Before the walk goes on to the node row `next` (-1: nowhere), hand over what is finished.
  void hand_over(long next) {
    shrink(grid.row, above);
    if (next == grid.row + 1) Grid<T>::swap(above, below);
    else shrink(grid.row + 1 < image.grid.score_rows ? grid.row + 1 : grid.row, below);
  }

  // Take the gradient of a row back along x and add it to that of the scores; leave zeros.
  void shrink(long y, T* grad) {
    const long left = grid.left, width = grid.width, count = grid.count, regular = grid.regular;
    const bool more = left + width < image.grid.score_columns;
    const long margin = regular && grid.first == 0 ? regular / 2 : 0;
    for (long c = 0; c < image.classes; ++c) {
      T* from = grad + c * grid.span;
      for (long j = 0; j < width + 2; ++j) low[j] = low_next[j] = 0;
      if (regular) {
        for (long j = 0; j * regular < count - margin; j += lanes) shrink_group(from, margin + j * regular, j);
        shrink_one_by_one(from, 0, margin);
      } else {
        shrink_one_by_one(from, 0, count);
      }
      for (long j = 0; j < width; ++j) low[j + 1] += low_next[j];
      if (!more) low[width - 1] += low[width];
      const long start = c * layout.class_stride + grid.depth.node * layout.plane_stride + y * layout.row_stride + left * layout.column_stride;
      if (grid.depth.t != 0) share_out(start, width + more);
      add_to(start, width + more);
      for (long k = 0; k < grid.columns; k += lanes) at(from, k) = V{};
    }
  }

  // Of a volume: give the next plane of scores its share of a row, and leave this one's.
  LOSSFOLD_APART void share_out(long start, long n) const {
    for (long j = 0; j < n; ++j) low_next[j] = low[j], low[j] *= (T)grid.depth.t;
    add_to(start + layout.plane_stride, n);
    for (long j = 0; j < n; ++j) low[j] = (T)(1 - grid.depth.t) * low_next[j];
  }

  LOSSFOLD_INLINE void shrink_one_by_one(const T* from, long begin, long end) const {
    for (long i = begin; i < end; ++i) {
      const long x = grid.first + i, to = grid.node[x] - grid.left;
      low[to] += grid.rest[x] * from[i];
      low_next[to] += grid.t[x] * from[i];
    }
  }

  // One vector of nodes from `j` on, whose label columns begin at i: sums of `regular` neighbours.
  LOSSFOLD_INLINE void shrink_group(const T* from, long i, long j) const {
    V here[8], there[8];
    for (long k = 0; k < grid.regular; ++k) {
      const long x = i + k * lanes;
      const V f = x < grid.columns ? *(const Loose*)(from + x) : V{};
      const long place = grid.first + (x < grid.columns ? x : 0);
      here[k] = f * *(const Loose*)(grid.rest + place);
      there[k] = f * *(const Loose*)(grid.t + place);
    }
    for (long left_over = grid.regular; left_over > 1; left_over /= 2)
      for (long k = 0; k < left_over / 2; ++k) {
        here[k] = pair_sums(here[2 * k], here[2 * k + 1]);
        there[k] = pair_sums(there[2 * k], there[2 * k + 1]);
      }
    *(Loose*)(low + j) = here[0];
    *(Loose*)(low_next + j) = there[0];
  }

  template <class S>
  LOSSFOLD_INLINE void add_as(long start, long n) const {
    S* to = (S*)out + start;
    for (long i = 0; i < n; ++i) narrow((T)(widen(to[i * layout.column_stride]) + low[i]), to + i * layout.column_stride);
  }
  void add_to(long start, long n) const {
    switch (layout.type) {
      case Type::f64: return add_as<double>(start, n);
      case Type::f32: return add_as<float>(start, n);
      case Type::f16: return add_as<Half>(start, n);
      default: return add_as<BFloat>(start, n);
    }
  }
};

}  // namespace
}  // namespace lossfold

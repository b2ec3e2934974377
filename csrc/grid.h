// Scoring at label resolution: scores are interpolated linearly from the nearest rows of scores and never stored.
//
// Labels are walked in tiles of columns and down each tile. The two rows of scores around a label row are kept interpolated
// along x (above, below), and a block is a few label rows between them, one after the other.
//
// A volume is walked plane by plane. Between two planes of scores, at a label plane's depth, there is a plane of scores too: a row
// of it is made when it is read, and everything else is as in an image.
//
// Exps are taken one by one, or geometrically where at least three label rows lie between two rows of scores: from each of the
// two its maximum over the classes is subtracted (a column's interpolated maximum is the same for all classes, so the softmax
// does not change), and then the exp of a class's score goes down a column as e, e r, e r^2, ...: two exps for all label rows.
// The guard: exps must neither vanish at one end and count at the other, nor all be small in between. Measured, geometric exps
// make fold and unfold together 1.1 times as fast at a ratio of 3, 1.2 at 4, 1.3 to 1.5 at 8 and more (5, 19, 150 classes).
#pragma once

#include "block.h"
#include "place.h"

namespace lossfold {
namespace {

template <class T>
struct Grid {
  using V = typename Lanes<T>::V;
  using Int = typename Lanes<T>::Int;
  using I = typename Lanes<T>::I;
  using Loose = typename Lanes<T>::Loose;
  static constexpr long lanes = Lanes<T>::width;
  const Image& image;
  const GridShape& grid;
  Block<T>& block;
  T *above, *below;                                // [classes, span]
  T *high_above, *high_below;                      // their maxima over the classes
  T *low, *low_behind;                             // a piece of a row of scores, and of that in the next plane
  Int* node;                                       // of each label column
  T *t, *rest;                                     // t and 1 - t of each label column
  long first = 0, count = 0, left = 0, width = 0;  // the tile: label columns, and nodes
  Place depth;                                     // of the plane of labels among those of scores
  long top = 0;                                    // the plane's first label row, counted from the volume's
  long row = -1;                                   // the node of `above`
  long rows_at_once, columns, span;                // of a block: label rows, and label columns with the padding between rows
  long regular;                                    // label columns a node, if that is the same everywhere and 2, 4 or 8; else 0
  double step;                                     // from one label row to the next, in nodes
  T u[most_rows], v[most_rows];                    // t and 1 - t of the block's label rows

  Grid(Block<T>& block_, Arena& arena) : image(block_.image), grid(image.grid), block(block_) {
    step = grid.align_corners ? grid.rows > 1 ? (double)(grid.score_rows - 1) / (double)(grid.rows - 1) : 0
                              : (double)grid.score_rows / (double)grid.rows;
    rows_at_once = step >= 1 ? 1 : step * most_rows <= 1 ? most_rows : (long)(1 / step + 1e-9);
    const long most = block.n / rows_at_once / 16 * 16, all = (grid.columns + 15) / 16 * 16;
    columns = most < all ? most : all;
    span = columns / 16 % 2 ? columns + 32 : columns + 16;  // an odd number of cache lines: the classes' rows spread over the sets
    T** const planes[] = {&above, &below};
    for (T** plane : planes) *plane = arena.take<T>(image.classes * span);
    T** const rows[] = {&high_above, &high_below};
    for (T** one : rows) *one = arena.take<T>(span);
    low = arena.take<T>(grid.score_columns + 64);
    low_behind = arena.take<T>(grid.score_columns + 64);
    node = arena.take<Int>(grid.columns + 64);
    t = arena.take<T>(grid.columns + 64);
    rest = arena.take<T>(grid.columns + 64);
    for (long x = 0; x < grid.columns; ++x) {
      const Place place = locate(x, grid.columns, grid.score_columns, grid.align_corners);
      node[x] = (Int)place.node;
      t[x] = (T)place.t;
      rest[x] = (T)(1 - place.t);
    }
    for (long x = grid.columns; x < grid.columns + 64; ++x) node[x] = node[grid.columns - 1], t[x] = rest[x] = 0;
    const long times = grid.columns / grid.score_columns;
    const bool power = times == 2 || times == 4 || times == 8;
    regular = !grid.align_corners && power && times * grid.score_columns == grid.columns ? times : 0;
  }
  static long bytes(const Image& image) {
    if (!image.resized) return 0;
    const long wide = (2 * image.classes + 2) * (block_pixels<T>(image) + 32) + 2 * image.grid.score_columns + 3 * image.grid.columns + 512;
    return wide * (long)sizeof(T) + 16 * alignment;
  }

  // The next tile from `from`: at most a row of a block, and where nodes are regular, whole nodes unless it is the last one.
  long begin_tile(long from) {
    const long margin = from == 0 ? regular / 2 : 0;  // the label columns before the first node
    const long size = regular ? margin + (columns - margin) / regular * regular : columns;
    first = from;
    count = from + columns < grid.columns ? size : grid.columns - from;
    left = node[first];
    width = node[first + count - 1] - left + 1;
    row = -1;
    return from + count;
  }

  // Interpolate a row of scores along x, for all classes, and take the maximum over them.
  void stretch(long y, T* out, T* high) {
    const bool more = left + width < grid.score_columns;  // a further node, else the last one again
    const bool dense = grid.score_columns <= grid.columns;  // neighbouring columns are at most a node apart
    const bool copy = image.score_type != (sizeof(T) == 8 ? Type::f64 : Type::f32) || grid.column_stride != 1 ||
                      left + width + lanes >= grid.score_columns || depth.t != 0;
    for (long c = 0; c < image.classes; ++c) {
      const long start = c * image.class_stride + depth.node * grid.plane_stride + y * grid.row_stride + left * grid.column_stride;
      const T* from = (const T*)image.scores + start;
      if (copy) {
        load(image.score_type, image.scores, start, grid.column_stride, width + more, low);
        if (depth.t != 0) blend_planes(start, width + more);
        const T last = low[width + more - 1];
        for (long j = width + more; j < width + lanes + 1; ++j) low[j] = last;
        from = low;
      }
      T* to = out + c * span;
      for (long i = 0; i < columns; i += lanes) {
        const Int* at = node + first + (i < count ? i : 0);
        V a, b;
        if (dense) {
          const long base = at[0] - left;
          const I places = *(const typename Lanes<T>::LooseI*)at - (Int)at[0];
          const I near = places < (Int)lanes ? places : I{};
          a = pick(*(const Loose*)(from + base), near);
          b = pick(*(const Loose*)(from + base + 1), near);
        } else {
          for (long j = 0; j < lanes; ++j) {
            const long k = i + j < count ? at[j] - left : 0;
            a[j] = from[k], b[j] = from[k + 1];
          }
        }
        const V z = between(a, b, *(const Loose*)(rest + (at - node)), *(const Loose*)(t + (at - node)));
        block.at(to, i) = z;
        block.at(high, i) = c == 0 ? z : max_keeping_nan_of_second(block.at(high, i), z);
      }
    }
  }

  // Of a volume: bring the piece of a row that is read to the depth of the labels.
  LOSSFOLD_APART void blend_planes(long start, long n) {
    load(image.score_type, image.scores, start + grid.plane_stride, grid.column_stride, n, low_behind);
    const V v = V{} + (T)(1 - depth.t), u = V{} + (T)depth.t;
    for (long j = 0; j < n; j += lanes) block.at(low, j) = between(block.at(low, j), block.at(low_behind, j), v, u);
  }

  static void swap(T*& a, T*& b) {
    T* c = a;
    a = b;
    b = c;
  }

  // Bring `above` to a node, and `below` to the next one.
  void move_to(long y) {
    if (row >= 0 && y == row + 1) {
      swap(above, below);
      swap(high_above, high_below);
    } else {
      stretch(y, above, high_above);
    }
    stretch(y + 1 < grid.score_rows ? y + 1 : y, below, high_below);
    row = y;
  }

  LOSSFOLD_INLINE V blend(long k, long r) const { return between(block.at(above, k), block.at(below, k), V{} + v[r], V{} + u[r]); }

  // Of equal numbers it is exactly the same, infinite ones too: a uniform map stays uniform.
  static LOSSFOLD_INLINE V between(V a, V b, V v, V u) { return a == b ? a : v * a + u * b; }

  // The exps of a vector of columns in R rows at places `spacing` apart; false where the guard forbids it.
  template <long R>
  LOSSFOLD_INLINE bool take_geometric(long i, T spacing) const {
    const V from = block.at(high_above, i), change = block.at(high_below, i) - from;
    V sums[R], steep = V{}, deep = V{} - 1000;
    for (long r = 0; r < R; ++r) sums[r] = V{};
    for (long c = 0; c < image.classes; ++c) {
      const V a = block.at(above, c * span + i) - from, b = a + (block.at(below, c * span + i) - block.at(above, c * span + i) - change);
      const V lower = a < b ? a : b, upper = a < b ? b : a;
      const V gap = b - a, rise = gap * spacing;
      steep = (lower < (T)-80) & (upper > (T)-80) ? V{} + 1 : steep;
      steep = gap - gap == 0 ? steep : V{} + 1;  // a class masked by -inf
      deep = lower > deep ? lower : deep;
      const V ratio = exp_(rise > 80 ? V{} + 80 : rise);  // beyond, both ends are far below the maximum: e is 0 and stays 0
      V e = exp_(a + u[0] * (b - a));
      for (long r = 0; r < R; ++r) {
        block.at(block.rows, c * block.n + r * columns + i) = e;
        sums[r] += e;
        e *= ratio;
      }
    }
    for (long r = 0; r < R; ++r) {
      block.at(block.inverse, r * columns + i) = sums[r];
      block.at(block.high, r * columns + i) = from + u[r] * change;
    }
    return sum_lanes<T>(deep > (T)-60 ? steep : V{} + 1) == 0;  // false where there is NaN
  }

  LOSSFOLD_INLINE bool take_geometric(long rows, long i, T spacing) const {
    switch (rows) {
      case 3: return take_geometric<3>(i, spacing);
      case 4: return take_geometric<4>(i, spacing);
      case 5: return take_geometric<5>(i, spacing);
      case 6: return take_geometric<6>(i, spacing);
      case 7: return take_geometric<7>(i, spacing);
      case 8: return take_geometric<8>(i, spacing);
      default: return false;
    }
  }

  // The block of `rows` label rows from y on: its exps, their sum, and the label's score less the maximum; or its scores.
  LOSSFOLD_INLINE void read(long y, long rows, BadLabel* bad) {
    const long n = block.n;
    block.columns = columns;
    block.live = rows * columns;
    block.maximal = true;
    block.exponential = image.softmax && !block.has(Sum::nll_all);
    const T spacing = rows > 1 ? u[1] - u[0] : 0;
    for (long i = 0; i < columns; i += lanes) {
      if (block.exponential && sizeof(T) == 4 && take_geometric(rows, i, spacing)) continue;
      for (long r = 0; r < rows; ++r) {
        const long k = r * columns + i;
        V high = blend(i, r), sum = V{};
        for (long c = 1; c < image.classes; ++c) high = max_keeping_nan_of_second(high, blend(c * span + i, r));
        block.at(block.high, k) = high;
        for (long c = 0; c < image.classes; ++c) {
          const V z = blend(c * span + i, r);
          const V e = block.exponential ? exp_(z - high) : z;
          block.at(block.rows, c * n + k) = e;
          sum += e;
        }
        block.at(block.inverse, k) = sum;
      }
    }
    for (long r = 0; r < rows; ++r) block.load_targets((y + r) * grid.columns + first, count, r * columns, bad);
    if (!block.exponential) return block.blank();
    for (long r = 0; r < rows; ++r) {
      const int stride = (int)span;
      const int* __restrict label = block.label + r * columns;
      T *__restrict a = block.first, *__restrict b = block.second;
      for (int i = 0; i < (int)columns; ++i) a[i] = above[label[i] * stride + i], b[i] = below[label[i] * stride + i];
      for (long i = 0; i < columns; i += lanes)
        block.at(block.label_score, r * columns + i) = between(block.at(a, i), block.at(b, i), V{} + v[r], V{} + u[r]) - block.at(block.high, r * columns + i);
    }
    for (long i = 0; i < block.live; i += lanes)  // scores that take no part may be infinite or NaN
      if (sum_lanes<T>(block.at(block.weight, i) == 0 ? V{} + 1 : V{}) != 0) without_weight(i);
  }

  void without_weight(long i) const {
    const auto none = block.at(block.weight, i) == 0;
    for (long c = 0; c < image.classes; ++c) block.at(block.rows, c * block.n + i) = none ? V{} : block.at(block.rows, c * block.n + i);
    block.at(block.inverse, i) = none ? V{} + 1 : block.at(block.inverse, i);
    block.at(block.label_score, i) = none ? V{} : block.at(block.label_score, i);
  }

  // Where a row of labels lies among the rows of scores.
  LOSSFOLD_INLINE Place locate_row(long y) const { return locate(y - top, grid.rows, grid.score_rows, grid.align_corners); }

  // visit(y, rows) for every block of the label rows of [begin, end), which lie in one plane; leave(node) before a row of nodes
  // is left.
  template <class Visit, class Leave>
  LOSSFOLD_INLINE void walk(long begin, long end, BadLabel* bad, Visit visit, Leave leave) {
    const long plane = begin / grid.columns / grid.rows;
    depth = locate(plane, grid.planes, grid.score_planes, grid.align_corners);
    top = plane * grid.rows;
    for (long from = 0; from < grid.columns;) {
      const long next = begin_tile(from), last = end / grid.columns;
      for (long y = begin / grid.columns; y < last;) {
        const Place place = locate_row(y);
        if (place.node != row) {
          if (row >= 0) leave(place.node);
          move_to(place.node);
        }
        const long rows = take_rows(y, last, place);
        read(y, rows, bad);
        visit(y, rows);
        y += rows;
      }
      if (row >= 0) leave(-1);
      from = next;
    }
  }

  // each_row of a block of `rows` label rows from y on: see each_block.
  LOSSFOLD_INLINE auto runs(long y, long rows) const {
    return [this, y, rows](auto run) {
      for (long r = 0; r < rows; ++r) run((y + r) * grid.columns + first, r * columns, count);
    };
  }

  // How many label rows from y on make a block: between the same rows of scores, and evenly spaced.
  long take_rows(long y, long last, Place place) {
    double spacing = 0, before = place.t;
    long rows = 0;
    for (; rows < rows_at_once && y + rows < last; ++rows) {
      const Place here = locate_row(y + rows);
      if (here.node != place.node) break;
      const double more = here.t - before - spacing;
      if (rows == 1) spacing = here.t - before;
      else if (rows > 1 && (more > 1e-9 || more < -1e-9)) break;
      before = here.t;
      u[rows] = (T)here.t;
      v[rows] = (T)(1 - here.t);
    }
    return rows;
  }
};

// visit(each_row) for every block of the pixels [begin, end), once its scores, labels and weights are there;
// each_row(f) calls f(start, at, count) for its runs of pixels, pixel_step() apart, whose values begin at `at` in the block's rows.
template <class T, class Visit>
LOSSFOLD_INLINE void each_block(Block<T>& block, Arena& arena, long begin, long end, BadLabel* bad, Visit visit) {
  if (block.image.resized) {
    Grid<T> grid(block, arena);
    return grid.walk(begin, end, bad, [&](long y, long rows) { visit(grid.runs(y, rows)); }, [](long) {});
  }
  for (long start = begin; start < end; start += block.n) {
    const long count = end - start < block.n ? end - start : block.n;
    block.read(start, count, bad);
    visit([&](auto run) { block.runs(start, count, run); });
  }
}

}  // namespace
}  // namespace lossfold

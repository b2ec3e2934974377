// The unfold: from the derivatives of the loss with respect to the sums to the gradient of the scores.
#pragma once

#include "label_bins.h"
#include "grid_gradient.h"

namespace lossfold {
namespace {

// The derivatives of the loss with respect to this image's sums, as T; a row is null where the sum was not asked for.
template <class T>
struct Derivatives {
  T *rows, *prob, *prob_sq, *prob_at_label, *nll, *nll_all, *hard_nll, *map_prob;
  const T* slopes;  // of the errors, by class and bin; null without a histogram
  T nll_all_total;
  bool focal = false;

  Derivatives(const Image& image, Arena& arena, const double* grad, const void* slopes_) : slopes((const T*)slopes_) {
    rows = arena.take<T>(image.classes * image.sums);
    const double largest = sizeof(T) == 8 ? 0x1.fffffffffffffp1023 : 0x1.fffffep127;
    for (long i = 0; i < image.classes * image.sums; ++i)
      rows[i] = (T)(grad[i] > largest ? largest : grad[i] < -largest ? -largest : grad[i]);
    prob = row_of(image, Sum::prob, rows);
    prob_sq = row_of(image, Sum::prob_sq, rows);
    prob_at_label = row_of(image, Sum::prob_at_label, rows);
    nll = row_of(image, Sum::nll, rows);
    nll_all = row_of(image, Sum::nll_all, rows);
    hard_nll = row_of(image, Sum::hard_nll, rows);
    map_prob = row_of(image, Sum::map_prob, rows);
    for (int k = 0; k < image.sums; ++k) focal |= image.kinds[k] == Sum::focal || image.kinds[k] == Sum::focal_weight;
    if (prob_sq)
      for (long c = 0; c < image.classes; ++c) prob_sq[c] *= 2;
    double total = 0;
    if (nll_all)
      for (long c = 0; c < image.classes; ++c) total += nll_all[c];
    nll_all_total = (T)total;
  }
  static long bytes(const Image& image) { return image.classes * image.sums * (long)sizeof(T) + alignment; }
};

// first = d loss / d(-log p_y), second = d loss / d u through the focal powers at fixed log, both without w.
template <class T>
LOSSFOLD_INLINE void label_derivatives(Block<T>& block, const Derivatives<T>& d) {
  const Image& image = block.image;
  const long n = block.n, width = Lanes<T>::width;
  if (d.nll)
    block.look_up_label(d.nll, block.first);
  else
    for (long i = 0; i < block.live; ++i) block.first[i] = 0;
  if (d.hard_nll)
    for (long i = 0; i < block.live; ++i) block.first[i] += block.kept[i] != 0 ? d.hard_nll[block.label[i]] : 0;
  for (long i = 0; i < block.live; ++i) block.second[i] = 0;
  if (!d.focal) return;
  block.raise_powers(1);
  for (int k = 0; k < image.sums; ++k) {
    const bool with_log = image.kinds[k] == Sum::focal;
    if (!with_log && image.kinds[k] != Sum::focal_weight) continue;
    const T gamma = (T)image.gammas[k];
    T* g = block.powers + k * n;  // u^(gamma - 1)
    for (long i = 0; i < block.live; ++i) {
      const T slope = d.rows[k * image.classes + block.label[i]];
      if (with_log) block.first[i] += slope * (g[i] * block.u[i]);  // small factors first: g may be near the largest number
      block.second[i] += slope * (gamma * (with_log ? g[i] * block.nll[i] : g[i]));
    }
  }
  for (long i = 0; i < block.live; i += width) {  // below tiny, u is held and has no derivative
    const auto u = block.at(block.u, i);
    block.at(block.second, i) = u > decltype(u){} + Block<T>::tiny ? block.at(block.second, i) : decltype(u){};
  }
}

// Sum over the classes of slope_c e_c, or of slope_c (z_c - m), for each pixel.
template <class T, bool of_scores = false>
struct Dot {
  using V = typename Lanes<T>::V;
  const Block<T>& block;
  const T* slope;
  T* dot;
  T a;
  LOSSFOLD_INLINE void begin(long c) { a = slope[c]; }
  LOSSFOLD_INLINE void element(long, long i, V x, V e) {
    if constexpr (of_scores) block.at(dot, i) += a == 0 ? V{} : a * x;  // 0 times infinity
    else block.at(dot, i) += a * e;
  }
  LOSSFOLD_INLINE void end(long) {}
};

// What a loss that is linear in the sums of -log p adds up to over the block: such sums' derivatives are its coefficients.
template <class T>
LOSSFOLD_INLINE double value_of(const Block<T>& block, const Derivatives<T>& d, T* dot) {
  using V = typename Lanes<T>::V;
  V sum = V{};
  for (long i = 0; i < block.live; i += block.width) {
    V value = block.at(block.first, i) * block.at(block.nll, i);
    value = block.at(block.first, i) == 0 ? V{} : value;  // 0 times infinity
    if (dot) value -= block.at(dot, i) + d.nll_all_total * log_(block.at(block.inverse, i));
    sum += block.at(block.weight, i) * value;
  }
  return sum_lanes<T>(sum);
}

// Where a block's gradient goes: over its scores, or at label resolution to the two rows of scores that it came from.
// slope(c, i) gives a vector of it; fix is what the label's own class gets besides.
template <class T>
struct InPlace {
  using V = typename Lanes<T>::V;
  const Block<T>& block;
  template <class Slope>
  LOSSFOLD_INLINE void take(Slope slope, const T* fix) const {
    const long n = block.n;
    if (block.asks()) {
      for (long c = 0; c < block.image.classes; ++c)
        for (long i = 0; i < block.live; i += block.width)
          block.at(block.rows, c * n + i) = slope(c, i) + (block.labels(i) == (typename Lanes<T>::Int)c ? *(const V*)(fix + i) : V{});
      return;
    }
    for (long c = 0; c < block.image.classes; ++c)
      for (long i = 0; i < block.live; i += block.width) block.at(block.rows, c * n + i) = slope(c, i);
    for (long i = 0; i < block.live; ++i) block.rows[block.label[i] * n + i] += fix[i];
  }
};

template <class T>
struct IntoGrid {
  const GridGradient<T>& gradient;
  long rows;
  template <class Slope>
  LOSSFOLD_INLINE void take(Slope slope, const T* fix) const { gradient.add(rows, slope, fix); }
};

template <class T>
LOSSFOLD_APART void sum_distances(Block<T>& block, const Derivatives<T>& d, T* dot) {
  for (long i = 0; i < block.live; ++i) dot[i] = 0;
  block.exponentials(Dot<T, true>{block, d.nll_all, dot, 0});
}

// The map of a block, its classes' rows `stride` apart: where it lies, or in the block's own rows once take() has been there.
template <class T, class EachRow>
struct MapRows {
  using V = typename Lanes<T>::V;
  const Block<T>& block;
  const EachRow each_row;
  const bool in_place;
  const MapRow<T> first;
  const long stride;

  MapRows(const Block<T>& block_, EachRow each_row_)
      : block(block_), each_row(each_row_), in_place(block_.image.maps && block_.map_in_place(block_.weight)),
        first(in_place ? block_.map_of(0, block_.weight, true, each_row_) : MapRow<T>{(const char*)block_.map}),
        stride(in_place ? block_.image.pixels : block_.n) {}
  LOSSFOLD_INLINE void take(long c) const { block.map_of(c, block.weight, in_place, each_row); }
  LOSSFOLD_INLINE V at(long c, long i) const { return first.at(c * stride + i); }
};

// Sum over the classes of D_c e_c, D_c of the sums of p and of the map.
template <class T, class Map>
struct DotOfMap {
  using V = typename Lanes<T>::V;
  const Block<T>& block;
  const Derivatives<T>& d;
  const Map& map;
  T* dot;
  AheadOfMap<T> ahead;
  T a, by_map;
  LOSSFOLD_INLINE void begin(long c) { map.take(c), ahead.begin(c + 4), a = d.prob ? d.prob[c] : 0, by_map = d.map_prob[c]; }
  LOSSFOLD_INLINE void element(long c, long i, V x, V e) {
    ahead.element(c, i, x, e);
    block.at(dot, i) += (a + by_map * map.at(c, i)) * e;
  }
  LOSSFOLD_INLINE void end(long) {}
};

template <class T, class EachRow, class Sink>
LOSSFOLD_INLINE void unfold_softmax(Block<T>& block, const Derivatives<T>& d, const Binning<T>& binning, double* total, EachRow each_row, Sink sink) {
  using V = typename Lanes<T>::V;
  const long n = block.n, classes = block.image.classes, width = Lanes<T>::width;
  T *scale = block.high, *shift = block.label_score;
  T* dot = block.dot;  // sum_c p_c D_c without the label's part
  T* const distances = total && d.nll_all ? block.powers + (d.nll_all - d.rows) / classes * n : nullptr;
  const bool own_score = d.prob_at_label || d.focal || total, mixed = d.prob || d.prob_sq || d.slopes || d.map_prob || d.nll_all;
  const MapRows<T, EachRow> map(block, each_row);
  if (mixed)
    for (long i = 0; i < block.live; i += width) block.at(dot, i) = V{};
  if (!block.exponential) {
    block.find_max();
    if (own_score) block.label_minus_max();
    if (d.map_prob) block.exponentials(DotOfMap<T, MapRows<T, EachRow>>{block, d, map, dot, {block, size_of(block.image.map_type), nullptr}, 0, 0});
    else if (d.prob) block.exponentials(Dot<T>{block, d.prob, dot, 0});
    else if (distances) sum_distances(block, d, distances);
    else block.exponentials(Nothing<T>{});
  } else if (d.map_prob) {
    DotOfMap<T, MapRows<T, EachRow>> sum{block, d, map, dot, {block, size_of(block.image.map_type), nullptr}, 0, 0};
    for (long c = 0; c < classes; ++c) {
      sum.begin(c);
      for (long i = 0; i < block.live; i += width) sum.element(c, i, V{}, block.at(block.rows, c * n + i));
    }
  } else if (d.prob) {
    for (long i = 0; i < block.live; i += width) {
      V sum = V{};
      for (long c = 0; c < classes; ++c) sum += d.prob[c] * block.at(block.rows, c * n + i);
      block.at(dot, i) = sum;
    }
  }
  block.finish_softmax({own_score, d.focal || total, d.focal});
  if (mixed)
    for (long i = 0; i < block.live; i += width) block.at(dot, i) *= block.at(block.inverse, i);
  if (d.prob_sq)
    for (long c = 0; c < classes; ++c)
      for (long i = 0; i < block.live; i += width) {
        const V p = block.at(block.rows, c * n + i) * block.at(block.inverse, i);
        block.at(dot, i) += p * p * d.prob_sq[c];
      }
  if (d.slopes) {
    binning.find_slopes(d.slopes);
    for (long c = 0; c < classes; ++c)
      for (long i = 0; i < block.live; i += width)
        block.at(dot, i) += block.at(block.rows, c * n + i) * block.at(block.inverse, i) * block.at(block.slopes, c * n + i);
  }
  label_derivatives(block, d);
  if (total) *total += value_of(block, d, distances);
  T* fix = block.first;  // what the label's own class gets besides
  for (long i = 0; i < block.live; i += width) {
    const V w = block.at(block.weight, i), inverse = block.at(block.inverse, i);
    V q = w * block.at(block.first, i), own = V{};
    if (d.focal) q += w * block.at(block.second, i) * block.at(block.p, i);
    if (d.prob_at_label) {
      for (long j = 0; j < width; ++j) own[j] = d.prob_at_label[block.label[i + j]];
      own *= w * block.at(block.p, i);
    }
    block.at(scale, i) = w * inverse;
    block.at(shift, i) = inverse * (q + w * d.nll_all_total - own);
    if (mixed) block.at(dot, i) *= block.at(scale, i);
    block.at(fix, i) = own - q;
  }
  const auto slope = [&](long c, long i) {
    const V e = block.at(block.rows, c * n + i);
    V slope = -block.at(dot, i);  // apart from shift: at p_y = 1 either cancels exactly
    if (d.map_prob) slope += block.at(scale, i) * ((d.prob ? d.prob[c] : 0) + d.map_prob[c] * map.at(c, i));
    else if (d.prob) slope += block.at(scale, i) * d.prob[c];
    if (d.prob_sq) slope += block.at(scale, i) * d.prob_sq[c] * (e * block.at(block.inverse, i));
    if (d.slopes) slope += block.at(scale, i) * block.at(block.slopes, c * n + i);
    V dz = e * (slope + block.at(shift, i));
    if (d.nll_all) dz -= block.at(block.weight, i) * d.nll_all[c];
    return dz;
  };
  if (mixed) sink.take(slope, fix);
  else sink.take([&](long c, long i) { return block.at(block.rows, c * n + i) * block.at(shift, i); }, fix);
}

template <class T, class EachRow, class Sink>
LOSSFOLD_INLINE void unfold_identity(Block<T>& block, const Derivatives<T>& d, const Binning<T>& binning, double* total, EachRow each_row, Sink sink) {
  using V = typename Lanes<T>::V;
  const long n = block.n, classes = block.image.classes, width = Lanes<T>::width;
  block.gather_label(block.rows, block.label_score);
  block.finish_identity();
  const MapRows<T, EachRow> map(block, each_row);
  for (long c = 0; d.map_prob && c < classes; ++c) map.take(c);
  if (d.slopes) binning.find_slopes(d.slopes);
  label_derivatives(block, d);
  if (total) {
    *total += value_of(block, d, (T*)nullptr);
    for (long c = 0; d.nll_all && c < classes; ++c) {
      V sum = V{};
      for (long i = 0; i < block.live; i += width) sum += block.at(block.weight, i) * block.neg_log(block.at(block.rows, c * n + i));
      *total += (double)d.nll_all[c] * sum_lanes<T>(sum);
    }
  }
  T* fix = block.first;
  for (long i = 0; i < block.live; i += width) {
    const V p = block.at(block.p, i), slope = p < V{} + Block<T>::floor ? V{} : -1 / p;
    V at = V{};
    if (d.prob_at_label)
      for (long j = 0; j < width; ++j) at[j] = d.prob_at_label[block.label[i + j]];
    block.at(fix, i) = block.at(block.weight, i) * (at + block.at(block.first, i) * slope - block.at(block.second, i));
  }
  const auto slope = [&](long c, long i) {
    const V p = block.at(block.rows, c * n + i);
    V dp = V{};
    if (d.prob) dp += d.prob[c];
    if (d.prob_sq) dp += p * d.prob_sq[c];
    if (d.slopes) dp += block.at(block.slopes, c * n + i);
    if (d.map_prob) dp += d.map_prob[c] * map.at(c, i);
    if (d.nll_all) dp -= p < V{} + Block<T>::floor ? V{} : d.nll_all[c] / p;
    return block.at(block.weight, i) * dp;
  };
  sink.take(slope, fix);
}

template <class T>
void unfold(const Image& image, long begin, long end, void* work, const double* grad, const void* slopes,
            GradientLayout layout, void* grad_scores, double* value) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  const Derivatives<T> derivatives(image, arena, grad, slopes);
  const Binning<T> binning(block, arena);
  BadLabel bad;  // the fold has refused labels out of range
  const auto differentiate = [&](auto each_row, auto sink) {
    if (image.softmax) unfold_softmax(block, derivatives, binning, value, each_row, sink);
    else unfold_identity(block, derivatives, binning, value, each_row, sink);
  };
  if (image.resized) {
    Grid<T> grid(block, arena);
    GridGradient<T> gradient(grid, layout, grad_scores, arena);
    const auto visit = [&](long y, long rows) { differentiate(grid.runs(y, rows), IntoGrid<T>{gradient, rows}); };
    return grid.walk(begin, end, &bad, visit, [&](long next) { gradient.hand_over(next); });
  }
  for (long start = begin; start < end; start += block.n) {
    const long count = end - start < block.n ? end - start : block.n;
    block.read(start, count, &bad);
    differentiate([&](auto run) { block.runs(start, count, run); }, InPlace<T>{block});
    block.write(grad_scores, layout, start, count);
  }
  finish_streaming();
}

// Sum of w factor_y over the pixels: what the mean of such a loss is divided by.
template <class T>
double count(const Image& image, long begin, long end, void* work, const double* factors, BadLabel* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  double total = 0;
  for (long start = begin; start < end; start += block.n) {
    block.read_targets(start, end - start < block.n ? end - start : block.n, bad);
    double sums[4] = {};
    for (long i = 0; i < block.live; i += 4)
      for (long j = 0; j < 4; ++j) sums[j] += block.weight[i + j] * factors[block.label[i + j]];
    total += sums[0] + sums[1] + sums[2] + sums[3];
  }
  return total;
}

}  // namespace
}  // namespace lossfold

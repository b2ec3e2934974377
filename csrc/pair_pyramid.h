// The pair fold's Laplacian pyramid, row by row: g' = down(g), c = g - up(g'), and the derivatives of sums of w |c|.
//
// On each axis, with borders reflected, down takes every second element of [1 4 6 4 1] / 16 * g, and up fills zeros between
// the elements of g', twice as large, and does the same: even elements are (g'_-1 + 6 g'_0 + g'_1) / 8, odd ones
// (g'_0 + g'_1) / 2. Reflection continues g by g_-1 = g_1, g_-2 = g_2, g_n = g_n-2, and so g' by g'_-1 = g'_1, g'_h = g'_h-1.
// Rows are kept as the halves of even and of odd columns, where neither step needs a shuffle.

#pragma once

#include "pair_rows.h"

namespace lossfold {
namespace {

// Rows of a level's image: d at level 0.
template <class T>
struct LevelRows {
  Rows<T>& first;
  const PairLevel& level;
  const T* row(long y) const { return level.image ? (const T*)level.image + y * level.columns : first.d(y); }
};

// out = ([1 4 6 4 1] * row) at the even elements, from the row's halves; `scale` of the sum.
template <class T>
LOSSFOLD_INLINE void blur_halves(const T* even, const T* odd, long half, T scale, T* __restrict out) {
  for (long i = 0; i < half; ++i) out[i] = (even[i - 1] + 6 * even[i] + even[i + 1] + 4 * (odd[i - 1] + odd[i])) * scale;
}

template <class T>
LOSSFOLD_INLINE void signs_of(const T* __restrict row, long n, signed char* __restrict out) {
  for (long j = 0; j < n; ++j) out[j] = (row[j] > 0) - (row[j] < 0);
}

// out = factor * sign, or added to it.
template <bool adds, class T>
LOSSFOLD_INLINE void weigh(const signed char* __restrict signs, T factor, long n, T* __restrict out) {
  for (long j = 0; j < n; ++j) out[j] = factor * (T)signs[j] + (adds ? out[j] : 0);
}
template <bool adds, class T>
LOSSFOLD_INLINE void weigh(const signed char* __restrict signs, const T* __restrict factor, long n, T* __restrict out) {
  for (long j = 0; j < n; ++j) out[j] = factor[j] * (T)signs[j] + (adds ? out[j] : 0);
}

template <class T>
struct Descent {  // one level down
  typedef typename Lanes<T>::V V;
  const PairPlane& plane;
  LevelRows<T> source;
  const long half, count;  // columns and rows of the next level
  Halves<T> kept[kept_rows], filtered, raised, weight;
  long held[kept_rows], low_held[4];
  T *low[4], *out;

  Descent(const PairPlane& plane_, const LevelRows<T>& source_, Arena& arena)
      : plane(plane_), source(source_), half(source_.level.columns / 2), count(source_.level.rows / 2) {
    for (long j = 0; j < kept_rows; ++j) kept[j] = Halves<T>(arena, half), held[j] = -1;
    filtered = Halves<T>(arena, half);
    raised = Halves<T>(arena, half);
    weight = Halves<T>(arena, half);
    for (long j = 0; j < 4; ++j) low[j] = take_row<T>(arena, half), low_held[j] = -1;
    out = take_row<T>(arena, 2 * half);
  }
  static long bytes(long columns) {
    const long half = columns / 2;
    return (kept_rows + 3) * Halves<T>::bytes(half) + 4 * (row_size(half) * (long)sizeof(T) + alignment) + row_size(2 * half) * (long)sizeof(T) + alignment;
  }

  const Halves<T>& halves(long y) {
    const long n = 2 * count;
    y = y < 0 ? -y : y >= n ? 2 * n - 2 - y : y;
    const long slot = y % kept_rows;
    if (held[slot] != y) kept[slot].split(source.row(y), half), held[slot] = y;
    return kept[slot];
  }

  // Row i of the next level's image, with the columns beside it.
  const T* low_row(long i) {
    i = i < 0 ? 1 : i >= count ? count - 1 : i;
    const long slot = i % 4;
    if (low_held[slot] == i) return low[slot];
    low_held[slot] = i;
    const Halves<T> &a = halves(2 * i - 2), &b = halves(2 * i - 1), &c = halves(2 * i), &d = halves(2 * i + 1), &e = halves(2 * i + 2);
    for (long j = 0; j < half; j += Lanes<T>::width) {
      at(filtered.even, j) = at(a.even, j) + at(e.even, j) + 4 * (at(b.even, j) + at(d.even, j)) + 6 * at(c.even, j);
      at(filtered.odd, j) = at(a.odd, j) + at(e.odd, j) + 4 * (at(b.odd, j) + at(d.odd, j)) + 6 * at(c.odd, j);
    }
    filtered.even[-1] = filtered.even[1];
    filtered.odd[-1] = filtered.odd[0];
    filtered.even[half] = filtered.even[half - 1];
    T* row = low[slot];
    blur_halves<T>(filtered.even, filtered.odd, half, (T)(1.0 / 256), row);
    row[-1] = row[1];
    row[half] = row[half - 1];
    return row;
  }

  // c of row 2 i + odd into `raised`.
  void coefficients(long i, bool odd) {
    const Halves<T>& here = halves(2 * i + odd);
    const T *above = low_row(i - 1), *middle = low_row(i), *below = low_row(i + 1);
    T* __restrict row = filtered.even;  // scratch
    if (odd)
      for (long j = -1; j <= half; ++j) row[j] = (middle[j] + below[j]) * (T)0.5;
    else
      for (long j = -1; j <= half; ++j) row[j] = (above[j] + below[j] + 6 * middle[j]) * (T)0.125;
    const T *e = here.even, *o = here.odd;
    T *__restrict ce = raised.even, *__restrict co = raised.odd;
    for (long j = 0; j < half; ++j) {
      ce[j] = e[j] - (row[j - 1] + row[j + 1] + 6 * row[j]) * (T)0.125;
      co[j] = o[j] - (row[j] + row[j + 1]) * (T)0.5;
    }
  }

  void run(const PairLevel& next, int level, long begin, long end, Weights<T>& weights, double* sums) {
    signed char* signs = source.level.signs;
    for (long i = begin; i < end; ++i) {
      low_row(i - 1 < 0 ? 0 : i - 1);  // in order, so that what is needed again is still there
      const T* row = low_row(i);
      for (long j = 0; j < half; ++j) ((T*)next.image)[i * next.columns + j] = row[j];
      low_row(i + 1);
      for (int odd = 0; odd < 2; ++odd) {
        coefficients(i, odd);
        signed char* to = signs + (2 * i + odd) * 2 * half;
        signs_of(raised.even, half, to);
        signs_of(raised.odd, half, to + half);
        weights.row(2 * i + odd, 0, 2 * half);
        for (int k = 0; k < plane.sums; ++k)
          if (of_level(plane.sum[k].kind) && plane.sum[k].number == level) sums[k] += sum_of(plane.sum[k], weights);
      }
    }
  }

  double sum_of(const PairSum& sum, Weights<T>& weights) {
    const bool values = sum.kind == PairKind::laplacian;
    const T *even = weights.everywhere, *odd = even;  // behind the last column c is 0
    if (sum.where >= 0) {
      weight.split(weights.of(sum.where), half);
      even = weight.even, odd = weight.odd;
    } else if (!values) {
      return 2.0 * half;
    }
    return weighted_sum(even, half, [&](long j) { return values ? magnitude(at(raised.even, j)) : V{} + 1; }) +
           weighted_sum(odd, half, [&](long j) { return values ? magnitude(at(raised.odd, j)) : V{} + 1; });
  }
};

// The adjoint of one axis of down, b = [1 4 6 4 1] spread from a at even places, has borders of its own: an element of the
// result reads (a_-1, a_0, a_1) with these factors.
struct Spread {
  double before, here, after;
};
LOSSFOLD_INLINE Spread spread(long i, bool odd, long count) {
  if (odd) return {0, i == 0 ? 8.0 : 4.0, i + 1 < count ? 4.0 : 0};
  return {i == 0 ? 0 : i == 1 ? 2.0 : 1.0, i + 1 < count ? 6.0 : 7.0, i + 1 < count ? 1.0 : 0};
}

template <class T>
struct Ascent {  // the derivatives of a level's image
  typedef typename Lanes<T>::V V;
  const PairPlane& plane;
  const PairLevel* levels;
  const double* grad;
  const signed char* const* rest;  // for each sum, the signs of what is left
  Halves<T> kept[kept_rows], filtered, result, weight;
  long held[kept_rows];
  T *mixed, *factor;

  Ascent(const PairPlane& plane_, const PairLevel* levels_, const double* grad_, const signed char* const* rest_, Arena& arena)
      : plane(plane_), levels(levels_), grad(grad_), rest(rest_) {
    const long half = (levels[0].columns + 1) / 2;
    for (long j = 0; j < kept_rows; ++j) kept[j] = Halves<T>(arena, half), held[j] = -1;
    filtered = Halves<T>(arena, half);
    result = Halves<T>(arena, half);
    weight = Halves<T>(arena, half);
    mixed = take_row<T>(arena, half);
    factor = take_row<T>(arena, levels[0].columns);
  }
  static long bytes(long columns) {
    const long half = (columns + 1) / 2;
    return (kept_rows + 3) * Halves<T>::bytes(half) + (row_size(half) + row_size(columns)) * (long)sizeof(T) + 2 * alignment;
  }

  // Set, or add, sign * weight of row y of a level's coefficients.
  template <bool adds>
  void weighted_signs(int level, long y, Weights<T>& weights, const Halves<T>& to) {
    const long half = levels[level].columns / 2;
    const signed char* signs = levels[level].signs + y * 2 * half;
    T constant = 0;
    bool varies = false;
    for (int k = 0; k < plane.sums; ++k)
      if (plane.sum[k].kind == PairKind::laplacian && plane.sum[k].number == level) {
        if (plane.sum[k].where < 0) constant += (T)grad[k];
        else varies = true;
      }
    if (!varies) {
      weigh<adds>(signs, constant, half, to.even);
      weigh<adds>(signs + half, constant, half, to.odd);
      return;
    }
    weights.row(y, 0, 2 * half);
    for (long j = 0; j < 2 * half; ++j) factor[j] = constant;
    for (int k = 0; k < plane.sums; ++k)
      if (plane.sum[k].kind == PairKind::laplacian && plane.sum[k].number == level && plane.sum[k].where >= 0) {
        const T* w = weights.of(plane.sum[k].where);
        for (long j = 0; j < 2 * half; ++j) factor[j] += (T)grad[k] * w[j];
      }
    weight.split(factor, half);
    weigh<adds>(signs, weight.even, half, to.even);
    weigh<adds>(signs + half, weight.odd, half, to.odd);
  }

  // `result` becomes row y of the derivative of a level's image by its own coefficients and by the next level.
  void from_below(int level, long y, Weights<T>& weights) {
    const PairLevel& next = levels[level + 1];
    const long half = next.columns, i = y / 2;
    const Spread by = spread(i, y % 2, next.rows);
    const T* middle = (const T*)next.image + i * half;
    const T *above = i > 0 ? middle - half : middle, *below = i + 1 < next.rows ? middle + half : middle;
    const T f0 = (T)(by.before / 256), f1 = (T)(by.here / 256), f2 = (T)(by.after / 256);
    T *__restrict row = mixed, *__restrict e = result.even, *__restrict o = result.odd;
    for (long j = 0; j < half; ++j) row[j] = f0 * above[j] + f1 * middle[j] + f2 * below[j];
    row[-1] = row[half] = 0;
    for (long j = 0; j < half; ++j) e[j] = row[j - 1] + row[j + 1] + 6 * row[j];
    for (long j = 0; j < half; ++j) o[j] = 4 * (row[j] + row[j + 1]);
    result.even[half - 1] += mixed[half - 1];  // the folded borders
    result.odd[0] += 4 * mixed[0];
    result.even[1] += mixed[0];
    weighted_signs<true>(level, y, weights, result);
  }

  const Halves<T>& above_signs(int level, long y, Weights<T>& weights) {
    const long slot = y % kept_rows;
    if (held[slot] != y) weighted_signs<false>(level, y, weights, kept[slot]), held[slot] = y;
    return kept[slot];
  }

  // out -= the adjoint of up, of the coefficients' derivatives at the level before; row i.
  void take_from_above(int level, long i, Weights<T>& weights, T* __restrict out) {
    const long half = levels[level].columns, count = levels[level].rows, n = 2 * count;
    double factors[5] = {1, 4, 6, 4, 1};
    if (i == 1) factors[0] += 1;
    if (i == count - 1) factors[2] += 1, factors[3] += 4;
    T *__restrict even = filtered.even, *__restrict odd = filtered.odd;
    for (long j = -1; j <= half; ++j) even[j] = odd[j] = 0;
    for (long k = 0; k < 5; ++k) {
      const long y = 2 * i - 2 + k;
      if (y < 0 || y >= n) continue;
      const Halves<T>& row = above_signs(level - 1, y, weights);
      const T f = (T)(factors[k] / 64), *e = row.even, *o = row.odd;
      for (long j = 0; j < half; ++j) even[j] += f * e[j];
      for (long j = 0; j < half; ++j) odd[j] += f * o[j];
    }
    for (long j = 0; j < half; ++j) out[j] -= even[j - 1] + even[j + 1] + 6 * even[j] + 4 * (odd[j - 1] + odd[j]);
    out[1] -= even[0];
    out[half - 1] -= even[half - 1] + 4 * odd[half - 1];
  }

  // Add `result` to a row, column by column.
  void add_result(long half, T* out) const {
    const long width = Lanes<T>::width;
    typedef typename Lanes<T>::Loose Loose;
    long j = 0;
    for (; j + width <= half; j += width) {
      const V e = at(result.even, j), o = at(result.odd, j);
      *(Loose*)(out + 2 * j) += alternate<false>(e, o);
      *(Loose*)(out + 2 * j + width) += alternate<true>(e, o);
    }
    for (; j < half; ++j) out[2 * j] += result.even[j], out[2 * j + 1] += result.odd[j];
  }

  // Row y of the derivative of a level's image by what is at this level and below, added to `out`.
  void add_row(int level, long y, Weights<T>& weights, T* out) {
    const PairLevel& here = levels[level];
    if (here.signs && y < here.even_rows()) {
      from_below(level, y, weights);
      add_result(here.columns / 2, out);
    }
    for (int k = 0; k < plane.sums; ++k) {
      if (!rest || !rest[k] || level != rest_level(k)) continue;
      weights.row(y, 0, here.columns);
      const T *w = weights.of(plane.sum[k].where), factor_ = (T)grad[k];
      const signed char* signs = rest[k] + y * here.columns;
      for (long j = 0; j < here.columns; ++j) out[j] += factor_ * w[j] * signs[j];
    }
  }

  // The level that a sum of what is left belongs to: fewer where the image ends earlier.
  long rest_level(int k) const {
    long level = 0;
    while (level < plane.sum[k].number && levels[level].signs) ++level;
    return level;
  }
};

}  // namespace
}  // namespace lossfold

// One block of the label fold: loading, and what every pixel needs. See simd/lanes.h for the rules of kernel files.
//
// A block is some hundred pixels of one image. Its scores are brought into a row a class in L1, as float (double for
// float64 scores), and everything is done there along pixels:
//   m = max_c z_c, x = z_y - m, e_c = exp(z_c - m), s = sum e_c, p_c = e_c / s, -log p_y = log s - x.
// The unfold does the same again (nothing is kept between the passes) and, with D_c = d loss / d p_c and
// q = d loss / d (-log p_y), writes dz_k = p_k (D_k - sum_j p_j D_j) + q (p_k - [k = y]).

#pragma once

#include "block_rows.h"

namespace lossfold {
namespace {

// The row of `data` that belongs to a kind, or null.
template <class U>
LOSSFOLD_INLINE U* row_of(const Image& image, Sum kind, U* data) {
  for (int k = 0; k < image.sums; ++k)
    if (image.kinds[k] == kind) return data + k * image.classes;
  return nullptr;
}

// Kinds that are summed at the label; the others run over all classes.
LOSSFOLD_INLINE bool of_map(Sum kind) { return kind == Sum::map_prob || kind == Sum::map_size; }
LOSSFOLD_INLINE bool at_label(Sum kind) { return kind != Sum::prob && kind != Sum::prob_sq && kind != Sum::nll_all && !of_map(kind); }

LOSSFOLD_INLINE bool is_hard(Sum kind) { return kind == Sum::hard_weight || kind == Sum::hard_nll; }

struct Wanted {  // which of p_y, -log p_y and 1 - p_y (which takes the log) are read
  bool p, nll, u;
};

template <class T>
struct Block : Rows<T> {
  typedef Rows<T> Base;
  using V = typename Lanes<T>::V;
  using Base::image, Base::n, Base::live, Base::columns, Base::first_image, Base::images, Base::rows, Base::high,
    Base::label_score, Base::inverse, Base::nll, Base::p, Base::u, Base::powers, Base::label, Base::maximal, Base::upcoming,
    Base::upcoming_step, Base::width, Base::at, Base::asks, Base::ask, Base::has;
  static constexpr T tiny = sizeof(T) == 8 ? (T)0x1p-1022 : (T)0x1p-126;
  static constexpr T floor = (T)1e-12;
  Block(const Image& image_, Arena& arena) : Base(image_, arena) {}

  // value(i, sums) adds vectors to N sums over the pixels; cells are where they go, null where nobody asks.
  template <int N, class Value>
  LOSSFOLD_INLINE void add_up(double* const (&cells)[N], Value value) const {
    const long step = image.abreast ? columns : width;
    for (long from = 0; from < step; from += width) {
      V sums[N] = {};
      for (long i = from; i < live; i += step) value(i, sums);
      for (int j = 0; j < N; ++j)
        if (cells[j]) hand_over(cells[j], from, sums[j]);
    }
  }
  // The lanes of a sum are added, or go to an image each.
  LOSSFOLD_APART void hand_over(double* cell, long from, V sum) const {
    if (!image.abreast) {
      *cell += sum_lanes<T>(sum);
      return;
    }
    T lane[width];
    __builtin_memcpy(lane, &sum, sizeof sum);
    const long count = images - from < width ? images - from : width;
    cell += (first_image + from) * image.sums_stride;
    for (long j = 0; j < count; ++j) cell[j * image.sums_stride] += lane[j];
  }

  // row[y] of each pixel's label y.
  LOSSFOLD_INLINE void look_up_label(const T* row, T* out) const {
    if (asks())
      for (long i = 0; i < live; i += width) at(out, i) = ask(i, [&](long c) { return V{} + row[c]; });
    else
      for (long i = 0; i < live; ++i) out[i] = row[label[i]];
  }

  LOSSFOLD_INLINE void gather_label(const T* __restrict from, T* __restrict out) const {
    if (asks()) {
      for (long i = 0; i < live; i += width) at(out, i) = ask(i, [&](long c) { return *(const V*)(from + c * n + i); });
      return;
    }
    const int step = (int)n, *__restrict y = label;
    for (int i = 0; i < (int)live; ++i) out[i] = from[y[i] * step + i];
  }

  LOSSFOLD_INLINE bool has_hard() const { return has(Sum::hard_weight) || has(Sum::hard_nll); }
  LOSSFOLD_INLINE bool has_focal() const { return has(Sum::focal) || has(Sum::focal_weight); }

  LOSSFOLD_INLINE void find_max() const {
    if (maximal) return;
    for (long i = 0; i < live; i += width) at(high, i) = at(rows, i);
    for (long c = 1; c < image.classes; ++c)
      for (long i = 0; i < live; i += width) at(high, i) = max_keeping_nan_of_second(at(high, i), at(rows, c * n + i));
  }

  // What every per-pixel sum needs, from the sum of the e_c (in `inverse`) and the label's score.
  LOSSFOLD_INLINE void finish_softmax(Wanted wanted) const {
    for (long i = 0; i < live; i += width) {
      const V s = at(inverse, i), x = at(label_score, i);
      at(inverse, i) = 1 / s;
      if (wanted.p) at(p, i) = exp_(x) / s;
      if (!wanted.nll) continue;
      const V l = log_(s) - x;
      at(nll, i) = l;
      if (!wanted.u) continue;
      const V q = one_minus_exp_neg(l);
      at(u, i) = q < V{} + tiny ? V{} + tiny : q;
    }
  }

  LOSSFOLD_INLINE void finish_identity() const {
    for (long i = 0; i < live; i += width) {
      const V q = at(label_score, i);
      at(inverse, i) = V{} + 1;
      at(p, i) = q;
      at(nll, i) = -log_(q < V{} + floor ? V{} + floor : q);
      at(u, i) = 1 - q < V{} + tiny ? V{} + tiny : 1 - q;
    }
  }

  LOSSFOLD_INLINE void raise_powers(double less) const {  // powers[k] = u^(gamma_k - less)
    for (int k = 0; k < image.sums; ++k)
      if (image.kinds[k] == Sum::focal || image.kinds[k] == Sum::focal_weight)
        for (long i = 0; i < live; i += width) at(powers, k * n + i) = power(at(u, i), image.gammas[k] - less);
  }

  LOSSFOLD_INLINE V neg_log(V q) const { return -log_(q < V{} + floor ? V{} + floor : q); }

  // rows become e_c (softmax); their sum goes to `inverse`. extra(c, i, x, e) sees every element.
  template <class Extra>
  LOSSFOLD_INLINE void exponentials(Extra extra) const {
    for (long i = 0; i < live; i += width) at(inverse, i) = V{};
    for (long c = 0; c < image.classes; ++c) {
      T* row = rows + c * n;
      // The next block's row is asked for one line at a time, because memory takes few requests at once.
      const char* const next = upcoming ? upcoming + c * upcoming_step : (const char*)row;
      const long size = upcoming ? size_of(image.score_type) : 0;
      extra.begin(c);
      for (long i = 0; i < live; i += width) {
        lossfold::prefetch(next + i * size);
        const V x = at(row, i) - at(high, i), e = exp_(x);
        at(row, i) = e;
        at(inverse, i) += e;
        extra.element(c, i, x, e);
      }
      extra.end(c);
    }
  }

  LOSSFOLD_INLINE void label_minus_max() const {
    gather_label(rows, label_score);
    for (long i = 0; i < live; i += width) at(label_score, i) -= at(high, i);
  }
};

// For exponentials() of which nothing else is wanted.
template <class T>
struct Nothing {
  LOSSFOLD_INLINE void begin(long) {}
  LOSSFOLD_INLINE void element(long, long, typename Lanes<T>::V, typename Lanes<T>::V) {}
  LOSSFOLD_INLINE void end(long) {}
};

// Likewise where the map is read afterwards: its rows are asked for, line by line.
template <class T>
struct AheadOfMap {
  const Block<T>& block;
  const long size;
  const char* row;
  LOSSFOLD_INLINE void begin(long c) { row = block.coming_map(c); }
  LOSSFOLD_INLINE void element(long, long i, typename Lanes<T>::V, typename Lanes<T>::V) {
    if (row) prefetch(row + i * size);
  }
  LOSSFOLD_INLINE void end(long) {}
};

}  // namespace
}  // namespace lossfold

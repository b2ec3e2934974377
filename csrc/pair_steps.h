// The pair fold's sums over the steps of the predictions from a column, or a row, to the next, and their derivatives.
//
// A step s_x = p_x+1 - p_x has the weight of p_x, and the last column (row) has none: the derivative of sum f(s_x) by p_x is
// f'(s_x-1) - f'(s_x), nothing standing for the steps that are not there.

#pragma once

#include "pair_rows.h"

namespace lossfold {
namespace {

template <class T>
struct Steps {
  typedef typename Lanes<T>::V V;
  const PairPlane& plane;
  Rows<T>& rows;
  const long n;
  T *across, *down[2];  // the unfold's: derivatives of the loss by the steps of a row, and by those to the next of it and the one before
  long held[2] = {-1, -1};
  bool asked[2] = {false, false};  // steps along a row, along a column

  Steps(const PairPlane& plane_, Rows<T>& rows_, Arena& arena, long columns) : plane(plane_), rows(rows_), n(columns) {
    across = take_row<T>(arena, n);
    for (T*& row : down) row = take_row<T>(arena, n);
    for (int k = 0; k < plane.sums; ++k)
      if (of_steps(plane.sum[k].kind)) asked[plane.sum[k].number != 0] = true;
  }
  static long bytes(long n) { return 3 * (row_size(n) * (long)sizeof(T) + alignment); }
  bool used() const { return asked[0] || asked[1]; }

  static LOSSFOLD_INLINE V beside(const T* row, long i) { return *(const typename Lanes<T>::Loose*)(row + i); }

  // work(sum, its weights, the step from column i on), for each sum of steps of row y; a step that is not there has no weight.
  template <class Work>
  LOSSFOLD_INLINE void each(bool along_column, long y, Weights<T>& weights, Work work) const {
    if (!asked[along_column] || (along_column && y + 1 >= plane.rows)) return;
    const T *here = rows.p(y), *next = along_column ? rows.p(y + 1) : here + 1;
    for (int k = 0; k < plane.sums; ++k) {
      const PairSum& sum = plane.sum[k];
      if (!of_steps(sum.kind) || (sum.number != 0) != along_column) continue;
      T* w = weights.of(sum.where);
      const T last = w[n - 1];
      if (!along_column) w[n - 1] = 0;
      work(k, w, [&](long i) { return beside(next, i) - at(here, i); });
      w[n - 1] = last;
    }
  }

  void fold(long y, Weights<T>& weights, double* sums) const {
    for (int along_column = 0; along_column < 2; ++along_column)
      each(along_column, y, weights, [&](int k, const T* w, auto step) {
        switch (plane.sum[k].kind) {
          case PairKind::step: sums[k] += weighted_sum(w, n, [&](long i) { return magnitude(step(i)); }); break;
          case PairKind::step_sq: sums[k] += weighted_sum(w, n, [&](long i) { return step(i) * step(i); }); break;
          default: sums[k] += weighted_sum(w, n, [](long) { return V{} + 1; });
        }
      });
  }

  // The derivatives of the loss by the steps of row y.
  void slopes(bool along_column, long y, Weights<T>& weights, const double* grad, T* out) const {
    for (long i = 0; i < whole(n); ++i) out[i] = 0;
    weights.row(y, 0, n);
    each(along_column, y, weights, [&](int k, const T* w, auto step) {
      const T factor = (T)grad[k];
      const bool square = plane.sum[k].kind == PairKind::step_sq;
      if (!square && plane.sum[k].kind != PairKind::step) return;
      for (long i = 0; i < n; i += Lanes<T>::width) {
        const V weight = at(w, i), s = step(i), x = weight * factor * (square ? 2 * s : sign_of(s));
        at(out, i) += weight == 0 ? V{} : x;
      }
    });
  }
  const T* slopes_down(long y, Weights<T>& weights, const double* grad) {
    if (held[y % 2] != y) slopes(true, y, weights, grad, down[y % 2]), held[y % 2] = y;
    return down[y % 2];
  }

  // Add the derivative by row y of the predictions.
  void unfold(long y, Weights<T>& weights, const double* grad, T* out) {
    if (asked[0]) {
      slopes(false, y, weights, grad, across);
      for (long i = 0; i < n; i += Lanes<T>::width) at(out, i) += beside(across, i - 1) - at(across, i);
    }
    if (asked[1]) {
      if (y > 0) {
        const T* before = slopes_down(y - 1, weights, grad);
        for (long i = 0; i < n; i += Lanes<T>::width) at(out, i) += at(before, i);
      }
      const T* here = slopes_down(y, weights, grad);
      for (long i = 0; i < n; i += Lanes<T>::width) at(out, i) -= at(here, i);
    }
  }
};

}  // namespace
}  // namespace lossfold

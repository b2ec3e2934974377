// The pair fold's sums of Sobel responses, and their derivatives.
//
// Both responses are separable: Sx f = D_x (M_y f), Sy f = M_x (D_y f), with M = [1 2 1] and D = [-1 0 1]. The adjoint of M is
// M, that of D is -D; padding by replication continues a row for the adjoint of M by its last element, for that of D by its
// negative (check: D f at the first column is f_1 - f_0). Zeros continue by zeros.

#pragma once

#include "pair_rows.h"

namespace lossfold {
namespace {

template <class T>
struct Stencil {
  typedef typename Lanes<T>::V V;
  const PairPlane& plane;
  Rows<T>& rows;
  const long n;
  T *smooth, *steep, *sum, *none;  // M_y f, D_y f; scratch; a row of zeros
  T *across[2][kept_rows], *down[2][kept_rows];  // the unfold's, for each padding: derivatives of the responses to d and p
  long held[2][kept_rows];
  bool asked[2][2];  // [padding][of the prediction]

  Stencil(const PairPlane& plane_, Rows<T>& rows_, Arena& arena, long columns_, bool unfolds) : plane(plane_), rows(rows_), n(columns_) {
    T** const scratch[] = {&smooth, &steep, &sum, &none};
    for (T** row : scratch) *row = take_row<T>(arena, n);
    for (auto& padding : asked) padding[0] = padding[1] = false;
    for (int k = 0; k < plane.sums; ++k)
      if (of_stencils(plane.sum[k].kind)) asked[plane.sum[k].number != 0][plane.sum[k].kind == PairKind::edge_of_pred] = true;
    for (int zeros = 0; zeros < 2; ++zeros)
      for (long j = 0; unfolds && uses(zeros) && j < kept_rows; ++j) {
        across[zeros][j] = take_row<T>(arena, n);
        down[zeros][j] = take_row<T>(arena, n);
        held[zeros][j] = -1;
      }
  }
  static long bytes(long n) { return (4 + 4 * kept_rows) * (row_size(n) * (long)sizeof(T) + alignment); }
  bool uses(int zeros) const { return asked[zeros][0] || asked[zeros][1]; }
  bool used() const { return uses(0) || uses(1); }

  T* source(bool of_pred, bool zeros, long y) const {
    if (y < 0 || y >= plane.rows) {
      if (zeros) return none;
      y = y < 0 ? 0 : plane.rows - 1;
    }
    return of_pred ? rows.p(y) : rows.d(y);
  }

  static LOSSFOLD_INLINE void extend(T* row, long n, T factor) {
    row[-1] = factor * row[0];
    row[n] = factor * row[n - 1];
  }

  // M_y f and D_y f of row y, with the columns beside the first and the last.
  LOSSFOLD_INLINE void columns(bool of_pred, bool zeros, long y) const {
    const T *above = source(of_pred, zeros, y - 1), *here = source(of_pred, zeros, y), *below = source(of_pred, zeros, y + 1);
    for (long i = 0; i < n; i += Lanes<T>::width) {
      at(smooth, i) = at(above, i) + 2 * at(here, i) + at(below, i);
      at(steep, i) = at(below, i) - at(above, i);
    }
    extend(smooth, n, zeros ? 0 : 1);
    extend(steep, n, zeros ? 0 : 1);
  }
  static LOSSFOLD_INLINE V beside(const T* row, long i) { return *(const typename Lanes<T>::Loose*)(row + i); }
  LOSSFOLD_INLINE V x(long i) const { return beside(smooth, i + 1) - beside(smooth, i - 1); }
  LOSSFOLD_INLINE V y(long i) const { return beside(steep, i - 1) + 2 * at(steep, i) + beside(steep, i + 1); }

  void fold(long row, Weights<T>& weights, double* sums) const {
    for (int zeros = 0; zeros < 2; ++zeros)
      for (int of_pred = 0; of_pred < 2; ++of_pred) {
        if (!asked[zeros][of_pred]) continue;
        columns(of_pred, zeros, row);
        for (long i = 0; i < n; i += Lanes<T>::width) at(sum, i) = magnitude(x(i)) + magnitude(y(i));
        each(zeros, of_pred, [&](int k) { sums[k] += weighted_sum(weights.of(plane.sum[k].where), n, [&](long i) { return at(sum, i); }); });
      }
  }

  template <class Work>
  LOSSFOLD_INLINE void each(bool zeros, bool of_pred, Work work) const {
    for (int k = 0; k < plane.sums; ++k) {
      const PairSum& one = plane.sum[k];
      if (of_stencils(one.kind) && (one.number != 0) == zeros && (one.kind == PairKind::edge_of_pred) == of_pred) work(k);
    }
  }

  // The derivatives of the loss by Sx and Sy of row y.
  long slopes(bool zeros, long row, Weights<T>& weights, const double* grad) {
    const long slot = row % kept_rows;
    if (held[zeros][slot] == row) return slot;
    held[zeros][slot] = row;
    weights.row(row, 0, n);
    T *u = across[zeros][slot], *v = down[zeros][slot];
    for (long i = 0; i < whole(n); ++i) u[i] = v[i] = 0;
    for (int of_pred = 0; of_pred < 2; ++of_pred) {
      if (!asked[zeros][of_pred]) continue;
      columns(of_pred, zeros, row);
      each(zeros, of_pred, [&](int k) {
        const T* w = weights.of(plane.sum[k].where);
        const T factor = (T)grad[k];
        for (long i = 0; i < n; i += Lanes<T>::width) {
          const V weight = at(w, i) * factor;
          at(u, i) += at(w, i) == 0 ? V{} : weight * sign_of(x(i));
          at(v, i) += at(w, i) == 0 ? V{} : weight * sign_of(y(i));
        }
      });
    }
    return slot;
  }

  // Add the derivative by row `row` of the predictions.
  void unfold(long row, Weights<T>& weights, const double* grad, T* out) {
    for (int zeros = 0; zeros < 2; ++zeros) {
      if (!uses(zeros)) continue;
      const long last = plane.rows - 1;
      const long before = slopes(zeros, row > 0 ? row - 1 : 0, weights, grad), here = slopes(zeros, row, weights, grad),
                 after = slopes(zeros, row < last ? row + 1 : last, weights, grad);
      const T beyond = zeros ? 0 : 1;  // what continues the rows
      const T above = row > 0 ? 1 : beyond, below = row < last ? 1 : beyond;
      const T above_steep = row > 0 ? 1 : -beyond, below_steep = row < last ? 1 : -beyond;
      const T *u0 = across[zeros][before], *u1 = across[zeros][here], *u2 = across[zeros][after];
      const T *v0 = down[zeros][before], *v2 = down[zeros][after];
      for (long i = 0; i < n; i += Lanes<T>::width) {
        at(smooth, i) = above * at(u0, i) + 2 * at(u1, i) + below * at(u2, i);
        at(steep, i) = above_steep * at(v0, i) - below_steep * at(v2, i);
      }
      extend(smooth, n, -beyond);
      extend(steep, n, beyond);
      for (long i = 0; i < n; i += Lanes<T>::width) at(out, i) += y(i) - x(i);
    }
  }
};

}  // namespace
}  // namespace lossfold

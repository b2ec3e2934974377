// The pair fold's sums of functions of d = p - t at each pixel, and their derivatives.

#pragma once

#include "pair_rows.h"

namespace lossfold {
namespace {

template <class T>
double pixel_sum(const PairSum& sum, const T* d, const T* w, long n) {
  typedef typename Lanes<T>::V V;
  const T number = (T)sum.number;
  switch (sum.kind) {
    case PairKind::weight: return weighted_sum(w, n, [](long) { return V{} + 1; });
    case PairKind::abs: return weighted_sum(w, n, [&](long i) { return magnitude(at(d, i)); });
    case PairKind::square: return weighted_sum(w, n, [&](long i) { return at(d, i) * at(d, i); });
    case PairKind::smooth_abs: {
      const T half = number / 2, curve = number > 0 ? 1 / (2 * number) : 0;
      return weighted_sum(w, n, [&](long i) {
        const V x = magnitude(at(d, i));
        return x < number ? x * x * curve : x - half;
      });
    }
    default: return weighted_sum(w, n, [&](long i) { return sqrt_(at(d, i) * at(d, i) + number); });
  }
}

// out += factor * w * slope(i), nothing where w is 0.
template <class T, class Slope>
LOSSFOLD_INLINE void add_slope(T* out, T factor, const T* w, long n, Slope slope) {
  typedef typename Lanes<T>::V V;
  for (long i = 0; i < n; i += Lanes<T>::width) {
    const V weight = at(w, i), x = weight * factor * slope(i);
    at(out, i) += weight == 0 ? V{} : x;
  }
}

template <class T>
void add_pixel_slope(const PairSum& sum, T factor, const T* d, const T* w, long n, T* out) {
  typedef typename Lanes<T>::V V;
  const T number = (T)sum.number;
  switch (sum.kind) {
    case PairKind::weight: return;
    case PairKind::abs: return add_slope(out, factor, w, n, [&](long i) { return sign_of(at(d, i)); });
    case PairKind::square: return add_slope(out, factor, w, n, [&](long i) { return 2 * at(d, i); });
    case PairKind::smooth_abs: {
      const T steep = number > 0 ? 1 / number : 0;
      return add_slope(out, factor, w, n, [&](long i) {
        const V x = at(d, i);
        return magnitude(x) < number ? x * steep : sign_of(x);
      });
    }
    default: return add_slope(out, factor, w, n, [&](long i) {
      const V x = at(d, i);
      return x / sqrt_(x * x + number);
    });
  }
}

}  // namespace
}  // namespace lossfold

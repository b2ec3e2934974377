// Value and gradient of a sum of functions of d = p - t in one pass: of elements that lie in the same order everywhere.
#pragma once

#include "pair_pixels.h"

namespace lossfold {
namespace {

constexpr long once_block = 1024;  // elements that are added up in T

// both(d, value, slope) for n elements; out gets factor * slope. Returns the sum of the values.
template <class T, class Both>
LOSSFOLD_INLINE double add_both(const T* p, const T* t, long n, T factor, T* out, Both both) {
  typedef typename Lanes<T>::V V;
  typedef typename Lanes<T>::Loose Loose;
  constexpr long width = Lanes<T>::width;
  V sum = {}, value, slope;
  long i = 0;
  while (i + width <= n) {
    V part = {};
    for (const long end = i + few_vectors * width; i < end && i + width <= n; i += width) {
      both(V(*(const Loose*)(p + i) - *(const Loose*)(t + i)), &value, &slope);
      part += value;
      *(Loose*)(out + i) = factor * slope;
    }
    sum += part;
  }
  double total = sum_lanes<T>(sum);
  for (; i < n; ++i) {
    both(V{} + (p[i] - t[i]), &value, &slope);
    total += value[0];
    out[i] = factor * slope[0];
  }
  return total;
}

template <class T>
LOSSFOLD_APART double value_and_slope(const PairSum& sum, const T* p, const T* t, long n, T factor, T* out) {
  typedef typename Lanes<T>::V V;
  const T number = (T)sum.number;
  switch (sum.kind) {
    case PairKind::abs: return add_both(p, t, n, factor, out, [](V d, V* value, V* slope) { *value = magnitude(d), *slope = sign_of(d); });
    case PairKind::square: return add_both(p, t, n, factor, out, [](V d, V* value, V* slope) { *value = d * d, *slope = 2 * d; });
    case PairKind::smooth_abs: {
      const T half = number / 2, curve = number > 0 ? 1 / (2 * number) : 0, steep = number > 0 ? 1 / number : 0;
      return add_both(p, t, n, factor, out, [=](V d, V* value, V* slope) {
        const V x = magnitude(d);
        *value = x < number ? x * x * curve : x - half;
        *slope = x < number ? d * steep : sign_of(d);
      });
    }
    default: return add_both(p, t, n, factor, out, [=](V d, V* value, V* slope) { *value = sqrt_(d * d + number), *slope = d / *value; });
  }
}

// n elements from where p, t and out point to.
template <class T>
double once(const PairSum& sum, double factor, Type pred_type, const void* pred, Type target_type, const void* target, long n, void* out, bool stream) {
  alignas(64) T p_row[once_block], t_row[once_block], out_row[once_block];
  double total = 0;
  for (long from = 0; from < n; from += once_block) {
    const long count = n - from < once_block ? n - from : once_block;
    const bool plain = pred_type == plain_type<T>;
    const T *p = (const T*)pred + from, *t = (const T*)target + from;
    if (!plain) load(pred_type, pred, from, 1, count, p_row), p = p_row;
    if (target_type != plain_type<T>) load(target_type, target, from, 1, count, t_row), t = t_row;
    T* const to = plain && !stream ? (T*)out + from : out_row;
    total += value_and_slope(sum, p, t, count, (T)factor, to);
    if (to == out_row && !(plain && stream_row((T*)out + from, out_row, count))) store(pred_type, out, from, 1, count, out_row);
  }
  if (stream) finish_streaming();
  return total;
}

}  // namespace
}  // namespace lossfold

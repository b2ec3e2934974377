// Separable filters over the rows of a plane, as the window fold's kernels need them. See simd/lanes.h for the rules of kernel files.
//
// Rows are filtered along their columns when they arrive, and kept in a ring; a batch of rows that are `step` apart from the one
// before is then filtered along rows at once, so that each kept row is read once for several results.

#pragma once

#include "pair_rows.h"
#include "window.h"

namespace lossfold {
namespace {

constexpr long step = 8;  // rows of a batch

// The weights, for a number of them that is known when compiling (0: any), so that loops over them unroll.
template <class T, int known>
struct Taps {
  T weight[most_taps];
  long any;
  Taps(const double* window, int count) : any(count) {
    for (long k = 0; k < count; ++k) weight[k] = (T)window[k];
  }
  LOSSFOLD_INLINE long count() const { return known ? known : any; }
};

template <class T>
LOSSFOLD_INLINE typename Lanes<T>::V loose(const T* row) {
  return *(const typename Lanes<T>::Loose*)row;
}

// Kept rows of some maps.
template <class T, int maps>
struct Ring {
  T** row;  // [slots][maps]
  T* none;  // a row of zeros
  long slots;

  Ring(Arena& arena, long columns, long taps) : slots(slots_of(taps)) {
    row = arena.take<T*>(slots * maps);
    for (long j = 0; j < slots * maps; ++j) row[j] = take_row<T>(arena, columns);
    none = take_row<T>(arena, columns);
  }
  static long slots_of(long taps) { return (taps - 1 + 2 * step - 1) / step * step; }
  static long bytes(long columns, long taps) {
    return (slots_of(taps) * maps + 1) * (row_size(columns) * (long)sizeof(T) + alignment + (long)sizeof(T*)) + alignment;
  }
  LOSSFOLD_INLINE T* at(long y, int map) const { return row[(y + slots) % slots * maps + map]; }

  // The rows [y, y + taps - 1 + step) of a map; zeros outside of [begin, end).
  LOSSFOLD_INLINE void window(long y, long taps, int map, long begin, long end, const T** found) const {
    for (long j = 0; j < taps - 1 + step; ++j) found[j] = y + j < begin || y + j >= end ? none : at(y + j, map);
  }
};

// out[r] = sum_k weight[k] rows[r + k][i], of a batch.
template <class T, int known>
LOSSFOLD_INLINE void along_rows(const Taps<T, known>& taps, const T* const* rows, long i, typename Lanes<T>::V* out) {
  typedef typename Lanes<T>::V V;
  V sum[step];
#pragma GCC unroll 8
  for (long r = 0; r < step; ++r) sum[r] = V{};
  if (known) {
#pragma GCC unroll 64
    for (long j = 0; j < known - 1 + step; ++j) {
      const V value = lossfold::at(rows[j], i);
#pragma GCC unroll 8
      for (long r = 0; r < step; ++r)
        if (j >= r && j - r < known) sum[r] += taps.weight[j - r] * value;
    }
  } else {
    for (long k = 0; k < taps.any; ++k)
#pragma GCC unroll 8
      for (long r = 0; r < step; ++r) sum[r] += taps.weight[k] * lossfold::at(rows[r + k], i);
  }
#pragma GCC unroll 8
  for (long r = 0; r < step; ++r) out[r] = sum[r];
}

}  // namespace
}  // namespace lossfold

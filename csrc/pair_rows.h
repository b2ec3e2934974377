// Rows of a plane as the pair fold's kernels read them. See simd/lanes.h for the rules of kernel files.
//
// A row has a margin on both sides, so that neighbours of the first and the last column can be read; what stands there is up
// to who reads. Behind its last element a row is 0 up to a whole vector, and so is every row of weights.

#pragma once

#include "pair.h"
#include "storage.h"

namespace lossfold {
namespace {

constexpr long margin = 16;
constexpr long kept_rows = 8;  // of each kind of row

LOSSFOLD_INLINE long whole(long n) { return (n + 15) / 16 * 16; }
LOSSFOLD_INLINE long row_size(long n) { return whole(n) + 2 * margin; }

template <class T>
constexpr Type plain_type = sizeof(T) == 8 ? Type::f64 : Type::f32;

template <class T>
LOSSFOLD_INLINE T* take_row(Arena& arena, long n) {
  T* row = arena.take<T>(row_size(n));
  for (long i = 0; i < row_size(n); ++i) row[i] = 0;
  return row + margin;
}

template <class T>
LOSSFOLD_INLINE typename Lanes<T>::V& at(T* row, long i) {
  return *(typename Lanes<T>::V*)(row + i);
}
template <class T>
LOSSFOLD_INLINE typename Lanes<T>::V at(const T* row, long i) {
  return *(const typename Lanes<T>::V*)(row + i);
}

template <class V>
LOSSFOLD_INLINE V magnitude(V x) {
  return x < 0 ? -x : x;
}
template <class V>
LOSSFOLD_INLINE V sign_of(V x) {
  return x > 0 ? V{} + 1 : x < 0 ? V{} - 1 : V{};
}

constexpr long few_vectors = 16;  // that are added up one to the other, and then to the sum of those before: half the digits lost

// The sum over a row of w value(i); where w is 0 the value does not matter. In T within 1024 elements, in double over them.
template <class T, class Value>
LOSSFOLD_INLINE double weighted_sum(const T* weight, long n, Value value) {
  typedef typename Lanes<T>::V V;
  double total = 0;
  for (long from = 0; from < n; from += 1024) {
    const long to = n - from < 1024 ? n : from + 1024;
    V sum = {};
    for (long i = from; i < to;) {
      V part = {};
      for (const long end = i + few_vectors * Lanes<T>::width; i < end && i < to; i += Lanes<T>::width) {
        const V w = at(weight, i), x = w * value(i);
        part += w == 0 ? V{} : x;
      }
      sum += part;
    }
    total += sum_lanes<T>(sum);
  }
  return total;
}

// The predictions, the differences and, for sigmoid, the slopes of the last rows that were asked for.
template <class T>
struct Rows {
  typedef typename Lanes<T>::V V;
  const PairPlane& plane;
  T *pred[kept_rows], *difference[kept_rows], *slope[kept_rows];
  long held[kept_rows], from = 0, count;

  Rows(const PairPlane& plane_, Arena& arena, long tile) : plane(plane_), count(tile) {
    for (long j = 0; j < kept_rows; ++j) {
      pred[j] = take_row<T>(arena, tile);
      difference[j] = take_row<T>(arena, tile);
      slope[j] = plane.sigmoid ? take_row<T>(arena, tile) : nullptr;
      held[j] = -1;
    }
  }
  static long bytes(const PairPlane& plane, long tile) { return kept_rows * (plane.sigmoid ? 3 : 2) * (row_size(tile) * (long)sizeof(T) + alignment); }

  // Columns [first, first + n) from now on.
  void tile(long first, long n) {
    if (first == from && n == count) return;
    from = first, count = n;
    for (long j = 0; j < kept_rows; ++j) held[j] = -1;
  }

  LOSSFOLD_INLINE long need(long y) {
    const long slot = y % kept_rows;
    if (held[slot] == y) return slot;
    held[slot] = y;
    T *p = pred[slot], *d = difference[slot];
    if (plain()) return read_plain(y, p, d), slot;
    load(plane.pred_type, plane.pred, y * plane.pred_row + from * plane.pred_column, plane.pred_column, count, p);
    load(plane.target_type, plane.target, y * plane.target_row + from * plane.target_column, plane.target_column, count, d);
    if (plane.sigmoid) squash(p, slope[slot]);
    for (long i = 0; i < count; i += Lanes<T>::width) at(d, i) = at(p, i) - at(d, i);
    for (long i = count; i < whole(count); ++i) p[i] = d[i] = 0;
    return slot;
  }
  // The usual case in one go.
  LOSSFOLD_INLINE bool plain() const {
    return plane.pred_type == plain_type<T> && plane.target_type == plain_type<T> && plane.pred_column == 1 && plane.target_column == 1 && !plane.sigmoid;
  }
  void read_plain(long y, T* __restrict p, T* __restrict d) const {
    const T *from_p = (const T*)plane.pred + y * plane.pred_row + from, *from_t = (const T*)plane.target + y * plane.target_row + from;
    for (long i = 0; i < count; ++i) p[i] = from_p[i], d[i] = from_p[i] - from_t[i];
    for (long i = count; i < whole(count); ++i) p[i] = d[i] = 0;
  }
  LOSSFOLD_INLINE T* p(long y) { return pred[need(y)]; }
  LOSSFOLD_INLINE T* d(long y) { return difference[need(y)]; }

  void squash(T* p, T* steep) const {
    for (long i = 0; i < count; i += Lanes<T>::width) {
      const V z = at(p, i), e = exp_(z < 0 ? z : -z), larger = reciprocal(1 + e), smaller = e * larger;
      at(p, i) = z >= 0 ? larger : smaller;
      at(steep, i) = z == z ? larger * smaller : z;
    }
  }
};

// The weights of a row by `where`; every map is read once a row, and only if it is asked for.
template <class T>
struct Weights {
  typedef typename Lanes<T>::V V;
  const PairPlane& plane;
  T *everywhere, *rows;  // rows: inside and outside of each map
  const long size;
  long y = -1, from = 0, count = 0;
  bool ready[2 * most_maps];
  BadTarget* bad;

  Weights(const PairPlane& plane_, Arena& arena, long tile, BadTarget* bad_ = nullptr) : plane(plane_), size(row_size(tile)), bad(bad_) {
    everywhere = take_row<T>(arena, tile);
    rows = arena.take<T>(2 * plane.maps * size + margin) + margin;
  }
  static long bytes(const PairPlane& plane, long tile) { return ((2 * plane.maps + 1) * row_size(tile) + 2 * margin) * (long)sizeof(T) + 2 * alignment; }

  // Columns [first, first + n) of row y.
  LOSSFOLD_INLINE void row(long y_, long first, long n) {
    if (count != n)
      for (long i = 0; i < whole(n); ++i) everywhere[i] = i < n ? 1 : 0;
    y = y_, from = first, count = n;
    for (int j = 0; j < 2 * plane.maps; ++j) ready[j] = false;
  }

  T* of(int where) {
    if (where < 0) return everywhere;
    T* row = rows + where * size;
    if (ready[where]) return row;
    ready[where] = true;
    const PairMap& map = plane.map[where / 2];
    const bool outside = where % 2;
    if (outside) {
      const T* inside = of(where - 1);
      for (long i = 0; i < whole(count); ++i) row[i] = inside[i] == 0 ? everywhere[i] : 0;
      return row;
    }
    load(map.type, map.data, y * map.row_stride + from * map.column_stride, map.column_stride, count, row);
    if (map.in_unit && bad) {
      typename Lanes<T>::I wrong = {};
      for (long i = count; i < whole(count); ++i) row[i] = 0;
      for (long i = 0; i < count; i += Lanes<T>::width) wrong |= ~((at(row, i) >= 0) & (at(row, i) <= 1));
      if (any(wrong))
        for (long i = 0; i < count; ++i)
          if (!(row[i] >= 0 && row[i] <= 1)) *bad = {true, (double)row[i]};
    }
    for (long i = count; i < whole(count); ++i) row[i] = 0;
    return row;
  }
};

// The even and the odd columns of a row, each a row with margins.
template <class T>
struct Halves {
  T *even, *odd;
  Halves() = default;
  Halves(Arena& arena, long half) : even(take_row<T>(arena, half)), odd(take_row<T>(arena, half)) {}
  static long bytes(long half) { return 2 * (row_size(half) * (long)sizeof(T) + alignment); }

  // The first 2 half elements of a row; behind them both halves are 0.
  LOSSFOLD_INLINE void split(const T* row, long half) const {
    const long width = Lanes<T>::width;
    long i = 0;
    for (; i + width <= half; i += width) {
      const typename Lanes<T>::V a = *(const typename Lanes<T>::Loose*)(row + 2 * i), b = *(const typename Lanes<T>::Loose*)(row + 2 * i + width);
      at(even, i) = even_lanes(a, b);
      at(odd, i) = odd_lanes(a, b);
    }
    for (; i < half; ++i) even[i] = row[2 * i], odd[i] = row[2 * i + 1];  // a level's row has nothing behind its end
    for (; i < whole(half); ++i) even[i] = odd[i] = 0;
  }
};

}  // namespace
}  // namespace lossfold

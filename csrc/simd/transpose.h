// Scores whose classes lie side by side in memory (rows of classes, channels-last images) turned into rows of pixels, and back.
// See lanes.h for the rules of kernel files.
#pragma once

#include "widths.h"

namespace {

// A square of vectors, transposed: each step shuffles its halves into each other like cards, and log2(width) shuffles do it.
template <class T>
LOSSFOLD_INLINE void transpose(typename Lanes<T>::V (&square)[Lanes<T>::width]) {
  constexpr long width = Lanes<T>::width, half = width / 2;
  typename Lanes<T>::V cards[width];
  for (long step = 1; step < width; step *= 2) {
    for (long i = 0; i < half; ++i) {
      cards[2 * i] = alternate<false>(square[i], square[half + i]);
      cards[2 * i + 1] = alternate<true>(square[i], square[half + i]);
    }
    for (long i = 0; i < width; ++i) square[i] = cards[i];
  }
}

template <class T, class S>
LOSSFOLD_INLINE typename Lanes<T>::V widen_vector(const S* from) {
  if constexpr (__is_same(S, T)) return *(const typename Lanes<T>::Loose*)from;
  alignas(64) T wide[Lanes<T>::width];
  for (long i = 0; i < Lanes<T>::width; ++i) wide[i] = (T)widen(from[i]);
  return *(const typename Lanes<T>::V*)wide;
}

template <class T, class S>
LOSSFOLD_INLINE void narrow_vector(typename Lanes<T>::V from, S* to) {
  if constexpr (__is_same(S, T)) {
    *(typename Lanes<T>::Loose*)to = from;
  } else {
    alignas(64) T wide[Lanes<T>::width];
    *(typename Lanes<T>::V*)wide = from;
    for (long i = 0; i < Lanes<T>::width; ++i) narrow(wide[i], to + i);
  }
}

// to[j * to_step + i] = from[i * from_step + j] in squares, the last of which overlap those before; false where one is too large.
template <class T, class From, class To>
LOSSFOLD_INLINE bool transpose_block(const From* from, long from_step, long rows, long columns, To* to, long to_step) {
  constexpr long width = Lanes<T>::width;
  if (rows < width || columns < width) return false;
  for (long row = 0; row < rows; row += width)
    for (long column = 0; column < columns; column += width) {
      const long y = row + width <= rows ? row : rows - width, x = column + width <= columns ? column : columns - width;
      typename Lanes<T>::V square[width];
      for (long i = 0; i < width; ++i) square[i] = widen_vector<T>(from + (y + i) * from_step + x);
      transpose<T>(square);
      for (long i = 0; i < width; ++i) narrow_vector<T>(square[i], to + (x + i) * to_step + y);
    }
  return true;
}

}  // namespace

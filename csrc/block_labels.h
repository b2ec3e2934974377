// The labels of a block, and how many pixels it has.

#pragma once

#include "map_row.h"

namespace lossfold {
namespace {

constexpr long most_rows = 8;  // of a block at label resolution
constexpr long few = 8;        // classes: up to so many, asking every class whether it is the label's beats a table of them
constexpr long very_few = 4;   // likewise, of sums in double

// Pixels a block: the rows of all classes fit in 24 KiB, within [64, 1024] and the image; at label resolution, where each class
// has four short rows besides, in 48 KiB and [128, 1024]. Depends on the shape alone.
template <class T>
LOSSFOLD_INLINE long block_pixels(const Image& image) {
  if (image.abreast) return image.abreast * image.pixels;
  const long image_pixels = image.resized ? (image.grid.columns + 15) / 16 * 16 * most_rows : (image.pixels + 15) / 16 * 16;
  const long least = image.resized ? 128 : 64;
  long n = image.block ? image.block : (image.resized ? 48 : 24) * 1024 / (long)sizeof(T) / image.classes / 64 * 64;
  n = n < least ? least : n > 1024 ? 1024 : n;
  n = n < image_pixels ? n : image_pixels;
  return image.resized && n / 16 % 2 == 0 ? n + 16 : n;
}

// Labels as they come; returns whether all are classes and none is ignored.
template <class S>
LOSSFOLD_INLINE bool copy_labels(const S* __restrict from, long n, long long classes, long long ignore, int* __restrict label) {
  constexpr long width = Lanes<float>::width;
  typedef S Many __attribute__((vector_size(width * sizeof(S)), may_alias, aligned(sizeof(S))));
  typedef Lanes<float>::I Int;
  typedef u32 Unsigned __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES)));
  const bool may_ignore = ignore == (int)ignore;
  Int other = {};
  long i = 0;
  for (; i + width <= n; i += width) {
    const Many from_i = *(const Many*)(from + i);
    const Int y = __builtin_convertvector(from_i, Int);
    other |= (Int)((Unsigned)y >= (u32)classes);
    if (may_ignore) other |= y == (int)ignore;
    if (sizeof(S) == 8) other |= __builtin_convertvector(__builtin_convertvector(y, Many) != from_i, Int);
    *(Lanes<float>::LooseI*)(label + i) = y;
  }
  bool rest = any(other);
  for (; i < n; ++i) {
    rest |= from[i] < 0 || from[i] >= classes || from[i] == ignore;
    label[i] = (int)from[i];
  }
  return !rest;
}

template <class S, class T>
LOSSFOLD_INLINE void load_labels(const Image& image, long start, long step, long n, int* __restrict label, T* __restrict weight, BadLabel* bad) {
  const S* __restrict from = (const S*)image.labels + start;
  const long long ignore = image.ignore_index, classes = image.classes;
  if (step == 1 && copy_labels(from, n, classes, ignore, label)) return;
  bool wrong = false;
  for (long i = 0; i < n; ++i) {
    const long long y = from[i * step];
    const bool ignored = y == ignore, inside = (unsigned long long)y < (unsigned long long)classes;
    wrong |= !ignored && !inside;
    label[i] = !ignored && inside ? (int)y : 0;
    weight[i] = ignored ? 0 : weight[i];
  }
  if (wrong)
    for (long i = 0; i < n; ++i)
      if (from[i * step] != ignore && (from[i * step] < 0 || from[i * step] >= classes)) *bad = {true, from[i * step]};
}

}  // namespace
}  // namespace lossfold

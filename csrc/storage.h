// Values of every type in memory, and working rows of floats or doubles: loading, storing, and where these rows lie.
// See simd/lanes.h for the rules of kernel files.
#pragma once

#include "fold.h"
#include "simd/transpose.h"
#include "simd/widths.h"

namespace lossfold {
namespace {

constexpr long alignment = 64;

LOSSFOLD_INLINE long size_of(Type type) {
  const long sizes[] = {8, 4, 2, 2, 8, 4, 1, 1};  // in the order of Type
  return sizes[(int)type];
}

// Ask for a line of memory that will be read soon, while there is something else to do: into the second cache, since the first
// one is full of the block that is worked on.
LOSSFOLD_INLINE void prefetch(const char* from) { __builtin_prefetch(from, 0, 2); }
LOSSFOLD_INLINE void prefetch(const char* from, long bytes) {
  for (long byte = 0; byte < bytes; byte += 64) prefetch(from + byte);
}

struct Arena {
  char* next;
  template <class U>
  LOSSFOLD_INLINE U* take(long n) {
    U* start = (U*)next;
    next += (n * (long)sizeof(U) + alignment - 1) / alignment * alignment;
    return start;
  }
};

// ---- loading and storing: the only places that know storage types ----

template <class S, class T>
LOSSFOLD_INLINE void load_strided(const void* source, long start, long step, long n, T* row) {
  const S* from = (const S*)source + start;
  constexpr long width = Lanes<T>::width;
  long i = 0;
  for (; step == 1 && i + width <= n; i += width) *(typename Lanes<T>::Loose*)(row + i) = widen_all<T>(from + i);
  for (; i < n; ++i) row[i] = (T)widen(from[i * step]);
}

template <class T>
void load(Type type, const void* source, long start, long step, long n, T* row) {
  switch (type) {
    case Type::f64: return load_strided<double>(source, start, step, n, row);
    case Type::f32: return load_strided<float>(source, start, step, n, row);
    case Type::f16: return load_strided<Half>(source, start, step, n, row);
    case Type::bf16: return load_strided<BFloat>(source, start, step, n, row);
    case Type::b8: return load_strided<Truth>(source, start, step, n, row);
    default: return load_strided<u8>(source, start, step, n, row);
  }
}

template <class S, class T>
LOSSFOLD_INLINE void store_strided(void* target, long start, long step, long n, const T* row) {
  S* to = (S*)target + start;
  constexpr long width = Lanes<T>::width;
  long i = 0;
  for (; step == 1 && i + width <= n; i += width) narrow_all((typename Lanes<T>::V)*(const typename Lanes<T>::Loose*)(row + i), to + i);
  for (; i < n; ++i) narrow(row[i], to + i * step);
}

template <class T>
void store(Type type, void* target, long start, long step, long n, const T* row) {
  switch (type) {
    case Type::f64: return store_strided<double>(target, start, step, n, row);
    case Type::f32: return store_strided<float>(target, start, step, n, row);
    case Type::f16: return store_strided<Half>(target, start, step, n, (const float*)row);
    default: return store_strided<BFloat>(target, start, step, n, (const float*)row);
  }
}

// Whole blocks, to[c * n + i] = from[i * step + c], and back; false where that is not worth it, or can't be.
template <class T>
LOSSFOLD_APART bool load_across(Type type, const void* source, long start, long step, long pixels, long classes, T* to, long n) {
  const auto turn = [&](auto* from) { return transpose_block<T>(from + start, step, pixels, classes, to, n); };
  switch (type) {
    case Type::f64: return turn((const double*)source);
    case Type::f32: return turn((const float*)source);
    case Type::f16: return turn((const Half*)source);
    case Type::bf16: return turn((const BFloat*)source);
    default: return false;
  }
}
template <class T>
LOSSFOLD_APART bool store_across(Type type, void* target, long start, long step, long pixels, long classes, const T* from, long n) {
  const auto turn = [&](auto* to) { return transpose_block<T>(from, n, classes, pixels, to + start, step); };
  switch (type) {
    case Type::f64: return turn((double*)target);
    case Type::f32: return turn((float*)target);
    case Type::f16: return turn((Half*)target);
    case Type::bf16: return turn((BFloat*)target);
    default: return false;
  }
}

}  // namespace
}  // namespace lossfold

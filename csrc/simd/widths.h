// Storage types: numbers widened to float or double and narrowed again, one by one and in vectors, and rows written around the caches.
// See lanes.h for the rules of kernel files.
#pragma once

#include "lanes.h"

namespace {

LOSSFOLD_INLINE float bits_to_float(u32 x) { return __builtin_bit_cast(float, x); }
LOSSFOLD_INLINE u32 float_to_bits(float x) { return __builtin_bit_cast(u32, x); }

struct Half { u16 bits; };
struct BFloat { u16 bits; };
struct Truth {  // whatever is not 0 is true: NumPy's and views of bytes hold other numbers than 1
  u8 bits;
  LOSSFOLD_INLINE operator long long() const { return bits != 0; }
};

LOSSFOLD_INLINE float widen(BFloat x) { return bits_to_float((u32)x.bits << 16); }
LOSSFOLD_INLINE float widen(float x) { return x; }
LOSSFOLD_INLINE double widen(double x) { return x; }
LOSSFOLD_INLINE float widen(u8 x) { return x; }
LOSSFOLD_INLINE float widen(Truth x) { return x.bits != 0; }

LOSSFOLD_INLINE float widen(Half x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#elif defined(__aarch64__)
  return __builtin_bit_cast(__fp16, x.bits);
#else
  u32 sign = (u32)(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (magnitude << 13));
  if (magnitude < 0x0400) return bits_to_float(sign | float_to_bits((float)magnitude * 0x1p-24f));
  return bits_to_float(sign | ((magnitude << 13) + 0x38000000));
#endif
}

// A vector of neighbours, widened.
template <class T, class S>
LOSSFOLD_INLINE typename Lanes<T>::V widen_all(const S* from) {
  typename Lanes<T>::V out;
  for (long j = 0; j < Lanes<T>::width; ++j) out[j] = (T)widen(from[j]);
  return out;
}
template <>
LOSSFOLD_INLINE F widen_all<float>(const float* from) { return *(const Lanes<float>::Loose*)from; }
template <>
LOSSFOLD_INLINE D widen_all<double>(const double* from) { return *(const Lanes<double>::Loose*)from; }
template <>
LOSSFOLD_INLINE F widen_all<float>(const BFloat* from) {
  typedef u16 Words __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES / 2), may_alias, aligned(2)));
  return (F)(__builtin_convertvector(*(const Words*)from, I) << 16);
}
template <>
LOSSFOLD_INLINE F widen_all<float>(const u8* from) {
  typedef u8 Bytes __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES / 4), may_alias, aligned(1)));
  return __builtin_convertvector(__builtin_convertvector(*(const Bytes*)from, I), F);
}
template <>
LOSSFOLD_INLINE F widen_all<float>(const Truth* from) {
  const F bytes = widen_all<float>(&from->bits);
  return bytes == 0 ? bytes : F{} + 1;
}
#if defined(__AVX512F__)
template <>
LOSSFOLD_INLINE F widen_all<float>(const Half* from) { return (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from)); }
#elif defined(__F16C__)
template <>
LOSSFOLD_INLINE F widen_all<float>(const Half* from) { return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)); }
#endif

LOSSFOLD_INLINE void narrow(float x, float* out) { *out = x; }
LOSSFOLD_INLINE void narrow(float x, double* out) { *out = x; }
LOSSFOLD_INLINE void narrow(double x, double* out) { *out = x; }
LOSSFOLD_INLINE void narrow(double x, float* out) { *out = (float)x; }

// Round to nearest, ties to even.
LOSSFOLD_INLINE void narrow(float x, BFloat* out) {
  u32 b = float_to_bits(x);
  u32 rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
  out->bits = x == x ? (u16)rounded : (u16)0x7fc0;
}

LOSSFOLD_INLINE void narrow(float x, Half* out) {
#if defined(__F16C__)
  out->bits = _cvtss_sh(x, 0);
#elif defined(__aarch64__)
  out->bits = __builtin_bit_cast(u16, (__fp16)x);
#else
  u32 b = float_to_bits(x), sign = (b >> 16) & 0x8000, magnitude = b & 0x7fffffff, half;
  if (magnitude > 0x7f800000) half = 0x7e00;
  else if (magnitude >= 0x47800000) half = 0x7c00;
  else if (magnitude < 0x38800000) half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000;
  else half = (magnitude + 0xc8000fff + ((magnitude >> 13) & 1)) >> 13;
  out->bits = (u16)(sign | half);
#endif
}

// A vector narrowed to half the size, as bits.
typedef u16 Words __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES / 2), may_alias));
LOSSFOLD_INLINE Words words_of(F v, const BFloat*) {
  typedef u32 Unsigned __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES)));
  const Unsigned bits = (Unsigned)v, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector(v == v ? rounded : Unsigned{} + 0x7fc0, Words);
}
LOSSFOLD_INLINE Words words_of(F v, const Half*) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtps_ph((__m512)v, 0);
#elif defined(__F16C__)
  return (Words)_mm256_cvtps_ph((__m256)v, 0);
#else
  Half all[Lanes<float>::width];
  for (long j = 0; j < Lanes<float>::width; ++j) narrow(v[j], all + j);
  Words out;
  __builtin_memcpy(&out, all, sizeof out);
  return out;
#endif
}

// A vector to neighbours, narrowed.
template <class V, class S>
LOSSFOLD_INLINE void narrow_all(V v, S* to) {
  if constexpr (sizeof(v[0]) == 4 && sizeof(S) == 2) {
    const Words words = words_of(v, to);
    __builtin_memcpy(to, &words, sizeof words);
  } else {
    for (unsigned long j = 0; j < sizeof(V) / sizeof(v[0]); ++j) narrow(v[j], to + j);
  }
}

// Copy n floats without bringing the target into the caches, if the target's alignment allows it.
LOSSFOLD_INLINE bool stream_row(float* to, const float* row, long n) {
#if defined(__AVX512F__)
  if ((unsigned long)to % 64 || n % 16) return false;
  for (long i = 0; i < n; i += 16) _mm512_stream_ps(to + i, _mm512_load_ps(row + i));
  return true;
#elif defined(__AVX__)
  if ((unsigned long)to % 32 || n % 8) return false;
  for (long i = 0; i < n; i += 8) _mm256_stream_ps(to + i, _mm256_load_ps(row + i));
  return true;
#else
  (void)to, (void)row, (void)n;
  return false;
#endif
}
template <class T>
LOSSFOLD_INLINE bool stream_row(T*, const double*, long) { return false; }
// The same, narrowed to half the size.
template <class S>
LOSSFOLD_INLINE bool stream_row(S* to, const float* row, long n) {
  constexpr long width = Lanes<float>::width;
  if (LOSSFOLD_VECTOR_BYTES < 32 || (unsigned long)to % LOSSFOLD_VECTOR_BYTES || n % (2 * width)) return false;
  for (long i = 0; i < n; i += 2 * width) {
    const Words low = words_of(*(const F*)(row + i), to), high = words_of(*(const F*)(row + i + width), to);
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i*)(to + i), _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)low), (__m256i)high, 1));
#elif defined(__AVX__)
    _mm256_stream_si256((__m256i*)(to + i), _mm256_insertf128_si256(_mm256_castsi128_si256((__m128i)low), (__m128i)high, 1));
#else
    (void)low, (void)high;
#endif
  }
  return true;
}

// Streamed writes become visible to other threads.
LOSSFOLD_INLINE void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace

// Native vectors, and the elementary functions on them.
// Included only by kernel files, which are compiled once per SIMD level: everything lives in an unnamed namespace and
// no C++ standard header is used, so that no function built for a newer processor can be linked into the baseline.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LOSSFOLD_VECTOR_BYTES 64
#elif defined(__AVX__)
#define LOSSFOLD_VECTOR_BYTES 32
#else
#define LOSSFOLD_VECTOR_BYTES 16
#endif

#define LOSSFOLD_INLINE inline __attribute__((always_inline))
// For what is called once a block or a channel: copies of it in every kernel would take most of the time to compile.
#define LOSSFOLD_APART __attribute__((noinline))

namespace {

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

template <class T> struct Whole { typedef int type; };
template <> struct Whole<double> { typedef long long type; };

template <class T>
struct Lanes {
  typedef typename Whole<T>::type Int;  // as wide as T
  typedef Int I __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES), may_alias));
  typedef T V __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES), may_alias));
  typedef T Loose __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES), may_alias, aligned(sizeof(T))));
  typedef Int LooseI __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES), may_alias, aligned(sizeof(T))));
  static constexpr long width = LOSSFOLD_VECTOR_BYTES / sizeof(T);
};
typedef Lanes<float>::V F;
typedef Lanes<double>::V D;
typedef int I __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES), may_alias));

template <class V>
LOSSFOLD_INLINE V max_keeping_nan_of_second(V a, V b) {
  return b < a ? a : b;
}

// Sum of the lanes, pairwise, in an order that is the same for every call.
template <class T>
LOSSFOLD_INLINE T sum_lanes(typename Lanes<T>::V v) {
  T lane[Lanes<T>::width];
  __builtin_memcpy(lane, &v, sizeof v);
  for (long half = Lanes<T>::width / 2; half > 0; half /= 2)
    for (long i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}

// Sums of floats in double, in turn over all lanes.
struct WideSums {
  static constexpr bool fast = LOSSFOLD_VECTOR_BYTES == 64;
#if defined(__AVX512F__)
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  // Of v, the lanes that are set in `where`.
  LOSSFOLD_INLINE void add(Lanes<float>::I where, F v) {
    const __mmask16 lanes = _mm512_movepi32_mask((__m512i)where);
    low = _mm512_mask_add_pd(low, (__mmask8)lanes, low, _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)));
    high = _mm512_mask_add_pd(high, (__mmask8)(lanes >> 8), high, _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1)));
  }
  LOSSFOLD_INLINE double total() const { return sum_lanes<double>((D)low + (D)high); }
#else
  LOSSFOLD_INLINE void add(Lanes<float>::I, F) {}
  LOSSFOLD_INLINE double total() const { return 0; }
#endif
};

// Whether any lane is not 0.
template <class I>
LOSSFOLD_INLINE bool any(I v) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif defined(__AVX__)
  return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#else
  long long half[2];
  __builtin_memcpy(half, &v, sizeof half);
  return (half[0] | half[1]) != 0;
#endif
}

// table[at[0]], table[at[1]], ...
LOSSFOLD_INLINE F look_up(const float* table, Lanes<float>::I at) {
#if defined(__AVX512F__)
  return (F)_mm512_i32gather_ps((__m512i)at, table, 4);
#elif defined(__AVX2__)
  return (F)_mm256_i32gather_ps(table, (__m256i)at, 4);
#else
  F out;
  for (long j = 0; j < Lanes<float>::width; ++j) out[j] = table[at[j]];
  return out;
#endif
}
LOSSFOLD_INLINE D look_up(const double* table, Lanes<double>::I at) {
  D out;
  for (long j = 0; j < Lanes<double>::width; ++j) out[j] = table[at[j]];
  return out;
}

// v[at[0]], v[at[1]], ...
template <class V, class I>
LOSSFOLD_INLINE V pick(V v, I at) {
#if defined(__clang__)
  V out;
  for (unsigned long j = 0; j < sizeof(V) / sizeof(v[0]); ++j) out[j] = v[at[j]];
  return out;
#else
  return __builtin_shuffle(v, at);
#endif
}

// Every second lane of a and then of b, from the first or from the second on.
template <class V>
LOSSFOLD_INLINE V even_lanes(V a, V b) {
  constexpr long width = sizeof(V) / sizeof(a[0]);
#if defined(__clang__)
  V out;
  for (long j = 0; j < width / 2; ++j) out[j] = a[2 * j], out[width / 2 + j] = b[2 * j];
  return out;
#else
  typename Lanes<__typeof__(a[0] + a[0])>::I even;
  for (long j = 0; j < width; ++j) even[j] = 2 * j;
  return __builtin_shuffle(a, b, even);
#endif
}
template <class V>
LOSSFOLD_INLINE V odd_lanes(V a, V b) {
  constexpr long width = sizeof(V) / sizeof(a[0]);
#if defined(__clang__)
  V out;
  for (long j = 0; j < width / 2; ++j) out[j] = a[2 * j + 1], out[width / 2 + j] = b[2 * j + 1];
  return out;
#else
  typename Lanes<__typeof__(a[0] + a[0])>::I odd;
  for (long j = 0; j < width; ++j) odd[j] = 2 * j + 1;
  return __builtin_shuffle(a, b, odd);
#endif
}

// a0, b0, a1, b1, ...: the first or the second half.
template <bool second, class V>
LOSSFOLD_INLINE V alternate(V a, V b) {
  constexpr long width = sizeof(V) / sizeof(a[0]), from = second ? width / 2 : 0;
#if defined(__clang__)
  V out;
  for (long j = 0; j < width / 2; ++j) out[2 * j] = a[from + j], out[2 * j + 1] = b[from + j];
  return out;
#else
  typename Lanes<__typeof__(a[0] + a[0])>::I order;
  for (long j = 0; j < width; ++j) order[j] = from + j / 2 + (j % 2 ? width : 0);
  return __builtin_shuffle(a, b, order);
#endif
}

// a0 + a1, a2 + a3, ..., b0 + b1, ...
template <class V>
LOSSFOLD_INLINE V pair_sums(V a, V b) {
  return even_lanes(a, b) + odd_lanes(a, b);
}

// exp for x <= 88; below -87.33 it is 0 (a float32 there is subnormal). NaN stays NaN.
// x = n ln2 + r with |r| <= ln2/2; exp(r) by its degree-6 minimax polynomial.
LOSSFOLD_INLINE F exp_(F x) {
  const F lowest = F{} - 87.33f;
  F clamped = x < lowest ? lowest : x;
  F shifted = clamped * 1.44269504088896341f + 12582912.0f;
  F n = shifted - 12582912.0f;
  F r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  F q = r * 1.9875691500e-4f + 1.3981999507e-3f;
  q = q * r + 8.3334519073e-3f;
  q = q * r + 4.1665795894e-2f;
  q = q * r + 1.6666665459e-1f;
  q = q * r + 5.0000001201e-1f;
  q = q * (r * r) + (r + 1.0f);
  I exponent = ((I)shifted << 23) + 0x3f800000;
  F result = q * (F)exponent;
  return x < lowest ? F{} : result;
}

// log for normal x > 0: x = 2^k m with m in [sqrt(1/2), sqrt(2)), log(m) by its series in m - 1. NaN stays NaN.
LOSSFOLD_INLINE F log_(F x) {
  I bits = (I)x;
  I k = (bits - 0x3f3504f3) >> 23;
  F m = (F)(bits - (k << 23));
  F f = m - 1.0f, z = f * f;
  F y = f * 7.0376836292e-2f - 1.1514610310e-1f;
  y = y * f + 1.1676998740e-1f;
  y = y * f - 1.2420140846e-1f;
  y = y * f + 1.4249322787e-1f;
  y = y * f - 1.6668057665e-1f;
  y = y * f + 2.0000714765e-1f;
  y = y * f - 2.4999993993e-1f;
  y = y * f + 3.3333331174e-1f;
  y = y * f * z;
  F e = __builtin_convertvector(k, F);
  y = y + e * -2.12194440e-4f - 0.5f * z;
  F result = f + y + e * 0.693359375f;
  return x < F{} + __builtin_inff() ? result : x;
}

// 1 - exp(-x) for x >= 0 without cancellation near 0.
LOSSFOLD_INLINE F one_minus_exp_neg(F x) {
  F t = x * (-1.0f / 40320.0f) + 1.0f / 5040.0f;
  t = t * x - 1.0f / 720.0f;
  t = t * x + 1.0f / 120.0f;
  t = t * x - 1.0f / 24.0f;
  t = t * x + 1.0f / 6.0f;
  t = t * x - 0.5f;
  F series = x + t * x * x;
  return x < F{} + 0.34657359f ? series : 1.0f - exp_(-x);
}

// 1 / x to one unit in the last place, where x and 1 / x are normal numbers.
LOSSFOLD_INLINE F reciprocal(F x) {
#if defined(__AVX512F__)
  const F guess = (F)_mm512_rcp14_ps((__m512)x);
  return guess + guess * (1.0f - x * guess);
#else
  return 1.0f / x;
#endif
}
LOSSFOLD_INLINE D reciprocal(D x) { return 1.0 / x; }

// log(1 + x) = 2 artanh(s) for s = x / (2 + x) in [0, 1/3], by its series. NaN stays NaN.
LOSSFOLD_INLINE F log1p_from(F, F s) {
  const F z = s * s;
  F y = z * (1.0f / 15.0f) + 1.0f / 13.0f;
  y = y * z + 1.0f / 11.0f;
  y = y * z + 1.0f / 9.0f;
  y = y * z + 1.0f / 7.0f;
  y = y * z + 1.0f / 5.0f;
  y = y * z + 1.0f / 3.0f;
  return 2.0f * s + 2.0f * s * (z * y);
}

LOSSFOLD_INLINE F sqrt_(F x) {
  for (long i = 0; i < Lanes<float>::width; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

#define LOSSFOLD_BY_LANE(name, expression)                              \
  LOSSFOLD_INLINE D name(D x) {                                         \
    for (long i = 0; i < Lanes<double>::width; ++i) x[i] = expression;  \
    return x;                                                           \
  }
LOSSFOLD_BY_LANE(exp_, __builtin_exp(x[i]))
LOSSFOLD_BY_LANE(log_, __builtin_log(x[i]))
LOSSFOLD_BY_LANE(log1p_, __builtin_log1p(x[i]))
LOSSFOLD_INLINE D log1p_from(D x, D) { return log1p_(x); }
LOSSFOLD_BY_LANE(one_minus_exp_neg, -__builtin_expm1(-x[i]))
LOSSFOLD_BY_LANE(sqrt_, __builtin_sqrt(x[i]))
#undef LOSSFOLD_BY_LANE

// u^e for u in [tiny, 1]; the exponents people use take no logarithm.
template <class V>
LOSSFOLD_INLINE V power(V u, double e) {
  if (e == 0) return V{} + 1;
  if (e == 1) return u;
  if (e == 2) return u * u;
  if (e == 3) return u * u * u;
  if (e == -1) return 1 / u;
  if (e == 0.5) return sqrt_(u);
  if (e == -0.5) return 1 / sqrt_(u);
  return exp_(log_(u) * (decltype(u[0] + u[0]))e);
}

}  // namespace

// The nearest sources along one axis. Of a vector of pixels at once by looking around, where all have one nearby; else, in linear
// time, by the lower envelope of parabolas (Felzenszwalb and Huttenlocher, Theory of Computing 2012). See simd/lanes.h.
//
// Both find result[x] = min over q of found[q] + (step (x - q))^2, where `found` is what the other axes left: squares, 0 at sources,
// infinite where there is none.
#pragma once

#include "distance.h"
#include "storage.h"

namespace lossfold {
namespace {

constexpr double infinity = __builtin_inf();
constexpr long reach = 64;  // how far is looked: the cost grows with the distance, an envelope's does not

// Of the pixels whose squares are at `found`, neighbours along the axis `apart`; returns those whose nearest source may be beyond the
// reach. Those that are so already need not be done.
template <class U>
LOSSFOLD_INLINE typename Lanes<U>::I look_around(const U* found, long apart, U square, typename Lanes<U>::I beyond, U* result) {
  typedef typename Lanes<U>::Loose Loose;
  typename Lanes<U>::V best = *(const Loose*)found;
  typename Lanes<U>::I open{};
  for (long k = 1;; k += 4) {
    open = best > square * (U)(k * k);
    open &= ~beyond;
    if (k > reach || !any(open)) break;
    for (long j = k; j < k + 4; ++j) {
      const U far = square * (U)(j * j);
      const auto before = *(const Loose*)(found - j * apart) + far, after = *(const Loose*)(found + j * apart) + far;
      const auto nearer = before < after ? before : after;
      best = nearer < best ? nearer : best;
    }
  }
  *(Loose*)result = best;
  return open;
}

// Squares with infinity around them, and the parabolas of an envelope.
template <class U>
struct Line {
  static constexpr long width = Lanes<U>::width;
  U *found, *result;
  double *height, *start;
  long* place;
  Line(Arena& arena, long n) {
    U* const all = arena.take<U>(n + 2 * reach);
    for (long i = 0; i < reach; ++i) all[i] = all[reach + n + i] = (U)infinity;
    found = all + reach, result = arena.take<U>(n);
    height = arena.take<double>(n + 1), start = arena.take<double>(n + 1), place = arena.take<long>(n + 1);
  }
  static long bytes(long n) { return 5 * ((n + 2 * reach) * 8 + alignment); }

  // All pixels: vector after vector by looking around; a run between sources that has one too far away by its envelope.
  LOSSFOLD_INLINE void solve(const DistanceVolume& volume, long n, double step) {
    if (n < width) return envelope(volume, 0, n, n, step);
    for (long i = 0; i < n; i += width) {
      const long at = i < n - width ? i : n - width;
      if (!any(look_around<U>(found + at, 1, (U)(step * step), typename Lanes<U>::I{}, result + at))) continue;
      long from = at, to = at + width;
      while (from > 0 && found[from - 1] != 0) --from;
      while (to < n && found[to] != 0) ++to;
      envelope(volume, from, to, n, step);
      i = to - width;
    }
  }

  // The pixels [x, to), which begin and end at sources or where the line does. A source cuts it in two: no parabola reaches beyond.
  LOSSFOLD_APART void envelope(const DistanceVolume& volume, long x, long to, long n, double step) {
    const double square = step * step, inverse = 1 / square;
    while (x < to) {
      if (found[x] == 0) {
        result[x++] = 0;
        continue;
      }
      long end = x;
      while (end < n && found[end] != 0) ++end;
      long top = -1;
      for (long q = x > 0 ? x - 1 : 0; q < end + (end < n); ++q) {
        if (found[q] == (U)infinity) continue;
        const double h = found[q] * inverse + (double)q * (double)q;
        double at = -infinity;
        while (top >= 0) {
          const long apart = q - place[top];
          at = (h - height[top]) * (apart < volume.known ? volume.halves[apart] : 0.5 / (double)apart);
          if (at > start[top]) break;
          --top;
        }
        ++top;
        place[top] = q, height[top] = h, start[top] = top > 0 ? at : -infinity;
      }
      for (long k = 0; k <= top; ++k) {
        const long q = place[k];
        const double next = k < top ? start[k + 1] : (double)end;
        const long stop = next < (double)end ? (next > (double)x ? (long)__builtin_ceil(next) : x) : end;
        for (; x < stop; ++x) result[x] = (U)(found[q] + square * (double)(x - q) * (double)(x - q));
      }
      for (; x < end; ++x) result[x] = (U)infinity;
    }
  }
};

}  // namespace
}  // namespace lossfold

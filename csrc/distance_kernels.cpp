// Kernels of distance transforms; see distance.h. See simd/lanes.h for the rules of kernel files.

#include "distance_line.h"

namespace lossfold {
namespace {

// Whether codes are the wanted ones: bytes are truth values, of any bits.
template <class Code, class Codes>
LOSSFOLD_INLINE auto are(Codes codes, int wanted) {
  if constexpr (sizeof(Code) == 1) return codes != 0;
  else return codes == wanted;
}

// Steps to the nearest source of a column, infinite without one.
template <class T, class Code, bool outside>
LOSSFOLD_INLINE void scan(const DistanceVolume& volume, const Code* codes, long count, T* cells) {
  typedef typename Lanes<T>::Int Int;
  typedef typename Lanes<T>::Loose Loose;
  typedef Code Codes __attribute__((vector_size(sizeof(Code) * Lanes<T>::width), may_alias, aligned(sizeof(Code))));
  const long columns = volume.columns, width = Lanes<T>::width, whole = count / width * width;
  const Int nowhere = volume.nowhere;
  const auto source = [&](auto code) { return outside ? are<Code>(code, volume.wanted) : (are<Code>(code, volume.wanted) == 0) & (code != nowhere); };
  for (long y = 0; y < volume.rows; ++y) {
    const Code* const code = codes + y * columns;
    T *const here = cells + y * columns, *const above = here - columns;
    for (long i = 0; i < whole; i += width) {
      const auto at = source(__builtin_convertvector(*(const Codes*)(code + i), typename Lanes<T>::I));
      const typename Lanes<T>::V zero{};
      *(Loose*)(here + i) = at ? zero : y > 0 ? *(const Loose*)(above + i) + 1 : zero + (T)infinity;
    }
    for (long i = whole; i < count; ++i) here[i] = source((Int)code[i]) ? 0 : y > 0 ? above[i] + 1 : (T)infinity;
  }
  for (long y = volume.rows - 2; y >= 0; --y) {
    T *const here = cells + y * columns, *const below = here + columns;
    for (long i = 0; i < whole; i += width) {
      const auto up = *(const Loose*)(below + i) + 1, down = *(const Loose*)(here + i);
      *(Loose*)(here + i) = down < up ? down : up;
    }
    for (long i = whole; i < count; ++i) here[i] = here[i] < below[i] + 1 ? here[i] : below[i] + 1;
  }
}

// The last step's squares become the result.
template <class T, class U, class Code>
LOSSFOLD_INLINE void finish(const DistanceVolume& volume, const Code* codes, long code_step, long n, const U* inside, const U* outside, T* out) {
  const double step = volume.even ? volume.step[2] : 1;
  if (!volume.outside) {
    if (volume.squared)
      for (long i = 0; i < n; ++i) out[i] = (T)inside[i];
    else if (sizeof(U) == 4 && step == 1)  // exact squares: their roots are what double's would be rounded to
      for (long i = 0; i < n; ++i) out[i] = (T)__builtin_sqrtf((float)inside[i]);
    else
      for (long i = 0; i < n; ++i) out[i] = (T)(step * __builtin_sqrt((double)inside[i]));
    return;
  }
  for (long i = 0; i < n; ++i) {
    const bool within = are<Code>(codes[i * code_step], volume.wanted);
    const double square = within ? inside[i] : outside[i], far = step * __builtin_sqrt(square);
    const double value = within ? volume.inner - far : far - volume.outer;
    out[i] = square == infinity || codes[i * code_step] == volume.nowhere ? 0 : (T)value;
  }
}

template <class T, class Code>
void columns_of(const DistanceVolume& volume, long slice, long column, long count, void* cells, void* others) {
  const long start = slice * volume.rows * volume.columns + column;
  const Code* codes = (const Code*)volume.codes + start;
  scan<T, Code, false>(volume, codes, count, (T*)cells + start);
  if (volume.outside) scan<T, Code, true>(volume, codes, count, (T*)others + start);
}

// A step along an axis in the units of the squares.
LOSSFOLD_INLINE double step_of(const DistanceVolume& volume, int axis) { return volume.even ? 1 : volume.step[axis]; }

template <class T, class U, class Code>
void rows_of(const DistanceVolume& volume, long slice, long row, long count, void* work, void* cells, void* others) {
  Arena arena{(char*)work};
  const long n = volume.columns;
  Line<U> inside(arena, n), outside(arena, n);
  const U down = (U)step_of(volume, 1);
  const auto solve = [&](Line<U>& line, const T* steps) {
    for (long i = 0; i < n; ++i) line.found[i] = (down * (U)steps[i]) * (down * (U)steps[i]);
    line.solve(volume, n, step_of(volume, 2));
  };
  for (long y = row; y < row + count; ++y) {
    const long start = (slice * volume.rows + y) * n;
    T *mine = (T*)cells + start, *other = (T*)others + start;
    solve(inside, mine);
    if (volume.outside) solve(outside, other);
    if (volume.slices == 1) {
      finish(volume, (const Code*)volume.codes + start, 1, n, inside.result, outside.result, mine);
      continue;
    }
    for (long i = 0; i < n; ++i) mine[i] = (T)inside.result[i];
    for (long i = 0; i < n && volume.outside; ++i) other[i] = (T)outside.result[i];
  }
}

// Lines side by side, with infinity before and after them.
template <class U>
struct Lines {
  static constexpr long width = Lanes<U>::width;
  U *found, *result;
  Lines(Arena& arena, long n) {
    U* const all = arena.take<U>((n + 2 * reach) * most_lines);
    for (long i = 0; i < reach * most_lines; ++i) all[i] = all[(reach + n) * most_lines + i] = (U)infinity;
    found = all + reach * most_lines, result = arena.take<U>(n * most_lines);
  }
  static long bytes(long n) { return 2 * ((n + 2 * reach) * most_lines * 8 + alignment); }

  // All lines by looking around; then those that have pixels with no source nearby, one by one.
  LOSSFOLD_INLINE void solve(const DistanceVolume& volume, long n, double step, Line<U>& line) {
    for (long part = 0; part < most_lines; part += width) {
      typename Lanes<U>::I beyond{};
      for (long z = 0; z < n; ++z) {
        const long at = z * most_lines + part;
        beyond |= look_around<U>(found + at, most_lines, (U)(step * step), beyond, result + at);
      }
      for (long j = 0; j < width && any(beyond); ++j) {
        if (!beyond[j]) continue;
        for (long z = 0; z < n; ++z) line.found[z] = found[z * most_lines + part + j];
        line.envelope(volume, 0, n, n, step);
        for (long z = 0; z < n; ++z) result[z * most_lines + part + j] = line.result[z];
      }
    }
  }
};

template <class T, class U, class Code>
void lines_of(const DistanceVolume& volume, long row, long column, long count, void* work, void* cells, void* others) {
  Arena arena{(char*)work};
  const long n = volume.slices, apart = volume.rows * volume.columns, start = row * volume.columns + column;
  Line<U> line(arena, n);
  Lines<U> inside(arena, n), outside(arena, n);
  const auto solve = [&](Lines<U>& lines, const T* squares) {
    for (long z = 0; z < n; ++z)
      for (long j = 0; j < most_lines; ++j) lines.found[z * most_lines + j] = j < count ? (U)squares[z * apart + start + j] : 0;
    lines.solve(volume, n, step_of(volume, 0), line);
  };
  solve(inside, (const T*)cells);
  if (volume.outside) solve(outside, (const T*)others);
  for (long z = 0; z < n; ++z) {
    const long from = z * most_lines;
    finish(volume, (const Code*)volume.codes + z * apart + start, 1, count, inside.result + from, outside.result + from, (T*)cells + z * apart + start);
  }
}

long workspace(const DistanceVolume& volume) {
  const long longest = volume.columns > volume.slices ? volume.columns : volume.slices;
  return 2 * Line<double>::bytes(longest) + (volume.slices > 1 ? 2 * Lines<double>::bytes(volume.slices) : 0);
}

// run(T{}, U{}, Code{}): cells, squares and codes.
template <class Run>
LOSSFOLD_INLINE void with_types(const DistanceVolume& volume, Run run) {
  const auto coded = [&](auto cell, auto square) {
    if (volume.wide_codes) run(cell, square, u16{});
    else run(cell, square, u8{});
  };
  if (volume.wide) coded(double{}, double{});
  else if (volume.even) coded(float{}, float{});
  else coded(float{}, double{});
}
void columns_any(const DistanceVolume& v, long slice, long column, long count, void* cells, void* others) {
  with_types(v, [&](auto cell, auto, auto code) { columns_of<decltype(cell), decltype(code)>(v, slice, column, count, cells, others); });
}
void rows_any(const DistanceVolume& v, long slice, long row, long count, void* work, void* cells, void* others) {
  with_types(v, [&](auto cell, auto square, auto code) {
    rows_of<decltype(cell), decltype(square), decltype(code)>(v, slice, row, count, work, cells, others);
  });
}
void lines_any(const DistanceVolume& v, long row, long column, long count, void* work, void* cells, void* others) {
  with_types(v, [&](auto cell, auto square, auto code) {
    lines_of<decltype(cell), decltype(square), decltype(code)>(v, row, column, count, work, cells, others);
  });
}

}  // namespace

extern const DistanceKernels LOSSFOLD_LEVEL = {workspace, columns_any, rows_any, lines_any};

}  // namespace lossfold

// Kernels of distance transforms; see distance.h. See simd/lanes.h for the rules of kernel files.

#include "distance.h"
#include "storage.h"

namespace lossfold {
namespace {

constexpr double infinity = __builtin_inf();
constexpr long short_run = 3;  // pixels that are compared with one another sooner than an envelope is made

LOSSFOLD_INLINE bool is_source(int code, bool outside, const DistanceVolume& volume) {
  return outside ? code == volume.wanted : code != volume.wanted && code != volume.nowhere;
}

// Steps to the nearest source of a column, infinite without one.
template <class T, class Code, bool outside>
LOSSFOLD_INLINE void scan(const DistanceVolume& volume, const Code* codes, long count, T* cells) {
  const long columns = volume.columns;
  for (long i = 0; i < count; ++i) cells[i] = is_source(codes[i], outside, volume) ? 0 : (T)infinity;
  for (long y = 1; y < volume.rows; ++y) {
    const Code* __restrict code = codes + y * columns;
    const T* above = cells + (y - 1) * columns;
    T* here = cells + y * columns;
#pragma GCC ivdep
    for (long i = 0; i < count; ++i) here[i] = is_source(code[i], outside, volume) ? 0 : above[i] + 1;
  }
  for (long y = volume.rows - 2; y >= 0; --y) {
    const T* below = cells + (y + 1) * columns;
    T* here = cells + y * columns;
#pragma GCC ivdep
    for (long i = 0; i < count; ++i) here[i] = here[i] < below[i] + 1 ? here[i] : below[i] + 1;
  }
}

// One line: what the other axes left (squares, 0 at sources, infinite where there is none), and the parabolas of its envelope.
struct Line {
  double *found, *result, *height, *start;
  long* place;
  Line(Arena& arena, long n) {
    double** const rows[] = {&found, &result, &height, &start};
    for (double** row : rows) *row = arena.take<double>(n + 1);
    place = arena.take<long>(n + 1);
  }
  static long bytes(long n) { return 5 * ((n + 1) * 8 + alignment); }

  // The pixels [x, end) between two sources, or the line's ends, each with each.
  LOSSFOLD_INLINE long compare(long x, long end, long n, double square) {
    const long from = x > 0 ? x - 1 : 0, to = end < n ? end + 1 : n;
    for (; x < end; ++x) {
      double least = infinity;
      for (long q = from; q < to; ++q) {
        const double far = found[q] + square * (double)((x - q) * (x - q));
        least = far < least ? far : least;
      }
      result[x] = least;
    }
    return end;
  }

  // result = min over q of found[q] + (step (x - q))^2.
  void envelope(const DistanceVolume& volume, long n, double step) {
    const double square = step * step, inverse = 1 / square;
    for (long x = 0; x < n;) {
      if (found[x] == 0) {
        result[x++] = 0;
        continue;
      }
      long end = x;
      while (end < n && found[end] != 0) ++end;
      if (end - x <= short_run) {
        x = compare(x, end, n, square);
        continue;
      }
      long top = -1;
      for (long q = x > 0 ? x - 1 : 0; q < end + (end < n); ++q) {
        if (found[q] == infinity) continue;
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
        for (; x < stop; ++x) result[x] = found[q] + square * (double)(x - q) * (double)(x - q);
      }
      for (; x < end; ++x) result[x] = infinity;
    }
  }
};

// The last step's squares become the result.
template <class T, class Code>
LOSSFOLD_INLINE void finish(const DistanceVolume& volume, const Code* codes, long code_step, long n, const double* inside, const double* outside, T* out) {
  if (!volume.outside) {
    for (long i = 0; i < n; ++i) out[i] = (T)(volume.squared ? inside[i] : __builtin_sqrt(inside[i]));
    return;
  }
  for (long i = 0; i < n; ++i) {
    const int code = codes[i * code_step];
    const double square = code == volume.wanted ? inside[i] : outside[i];
    const double far = __builtin_sqrt(square);
    const double value = code == volume.wanted ? volume.inner - far : far - volume.outer;
    out[i] = square == infinity || code == volume.nowhere ? 0 : (T)value;
  }
}

template <class T, class Code>
void columns_of(const DistanceVolume& volume, long slice, long column, long count, void* cells, void* others) {
  const long start = slice * volume.rows * volume.columns + column;
  const Code* codes = (const Code*)volume.codes + start;
  scan<T, Code, false>(volume, codes, count, (T*)cells + start);
  if (volume.outside) scan<T, Code, true>(volume, codes, count, (T*)others + start);
}

template <class T>
LOSSFOLD_INLINE void squares(const T* steps, long n, double step, double* out) {
  for (long i = 0; i < n; ++i) out[i] = (step * (double)steps[i]) * (step * (double)steps[i]);
}

template <class T, class Code>
void rows_of(const DistanceVolume& volume, long slice, long row, long count, void* work, void* cells, void* others) {
  Arena arena{(char*)work};
  const long n = volume.columns;
  Line inside(arena, n), outside(arena, n);
  for (long y = row; y < row + count; ++y) {
    const long start = (slice * volume.rows + y) * n;
    T *mine = (T*)cells + start, *other = (T*)others + start;
    squares(mine, n, volume.step[1], inside.found);
    inside.envelope(volume, n, volume.step[2]);
    if (volume.outside) {
      squares(other, n, volume.step[1], outside.found);
      outside.envelope(volume, n, volume.step[2]);
    }
    if (volume.slices == 1) {
      finish(volume, (const Code*)volume.codes + start, 1, n, inside.result, outside.result, mine);
      continue;
    }
    for (long i = 0; i < n; ++i) mine[i] = (T)inside.result[i];
    for (long i = 0; i < n && volume.outside; ++i) other[i] = (T)outside.result[i];
  }
}

template <class T, class Code>
void lines_of(const DistanceVolume& volume, long row, long column, long count, void* work, void* cells, void* others) {
  Arena arena{(char*)work};
  const long n = volume.slices, apart = volume.rows * volume.columns, start = row * volume.columns + column;
  Line inside(arena, n), outside(arena, n);
  T *mine = arena.take<T>(n * most_lines), *other = arena.take<T>(n * most_lines);
  const auto each = [&](auto run) {
    for (long z = 0; z < n; ++z)
      for (long j = 0; j < count; ++j) run(z * apart + start + j, j * n + z);
  };
  each([&](long there, long here) {
    mine[here] = ((const T*)cells)[there];
    if (volume.outside) other[here] = ((const T*)others)[there];
  });
  for (long j = 0; j < count; ++j) {
    for (long z = 0; z < n; ++z) inside.found[z] = mine[j * n + z];
    inside.envelope(volume, n, volume.step[0]);
    if (volume.outside) {
      for (long z = 0; z < n; ++z) outside.found[z] = other[j * n + z];
      outside.envelope(volume, n, volume.step[0]);
    }
    finish(volume, (const Code*)volume.codes + start + j, apart, n, inside.result, outside.result, mine + j * n);
  }
  each([&](long there, long here) { ((T*)cells)[there] = mine[here]; });
}

long workspace(const DistanceVolume& volume) {
  const long longest = volume.columns > volume.slices ? volume.columns : volume.slices;
  const long lines = volume.slices > 1 ? 2 * (volume.slices * most_lines * 8 + alignment) : 0;
  return 2 * Line::bytes(longest) + lines;
}

template <class Run, class... Rest>
LOSSFOLD_INLINE void choose(const DistanceVolume& volume, Run floats, Run floats_wide_codes, Run doubles, Run doubles_wide_codes, Rest... rest) {
  (volume.wide ? volume.wide_codes ? doubles_wide_codes : doubles : volume.wide_codes ? floats_wide_codes : floats)(volume, rest...);
}
void columns_any(const DistanceVolume& v, long slice, long column, long count, void* cells, void* others) {
  choose(v, columns_of<float, u8>, columns_of<float, u16>, columns_of<double, u8>, columns_of<double, u16>, slice, column, count, cells, others);
}
void rows_any(const DistanceVolume& v, long slice, long row, long count, void* work, void* cells, void* others) {
  choose(v, rows_of<float, u8>, rows_of<float, u16>, rows_of<double, u8>, rows_of<double, u16>, slice, row, count, work, cells, others);
}
void lines_any(const DistanceVolume& v, long row, long column, long count, void* work, void* cells, void* others) {
  choose(v, lines_of<float, u8>, lines_of<float, u16>, lines_of<double, u8>, lines_of<double, u16>, row, column, count, work, cells, others);
}

}  // namespace

extern const DistanceKernels LOSSFOLD_LEVEL = {workspace, columns_any, rows_any, lines_any};

}  // namespace lossfold

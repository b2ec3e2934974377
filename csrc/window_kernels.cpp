// The window fold's kernels. Compiled once per SIMD level; LOSSFOLD_LEVEL names the table.

#include "window_filter.h"

namespace lossfold {
namespace {

constexpr int usual_taps = 11;

// What is taken from s and d before they are squared: near to them where the images are far from 0 or flat, so that their variances
// keep their digits. Of some pixels of a tile the value nearest to 0, or 0 between them; a NaN counts as 0.
template <class T>
struct Shift {
  T s, d;
  static long inside(long at, long side, long border) {
    at = at < border ? border : at >= side - border ? side - border - 1 : at;
    return at - border;
  }
  Shift(const WindowPlane& plane, long row, long rows, long column, long columns) {
    T low[2] = {0, 0}, high[2] = {0, 0};
    for (long j = 0; j < 16; ++j) {
      const long y = inside(row + (2 * (j / 4) + 1) * rows / 8, plane.rows, plane.border);
      const long x = inside(column + (2 * (j % 4) + 1) * columns / 8, plane.columns, plane.border);
      T p, t;
      load(plane.pred_type, plane.pred, y * plane.pred_row + x * plane.pred_column, 1, 1, &p);
      load(plane.target_type, plane.target, y * plane.target_row + x * plane.target_column, 1, 1, &t);
      const T found[2] = {p + t, p - t};
      for (int k = 0; k < 2; ++k) {
        const T value = found[k] - found[k] == 0 ? found[k] : 0;
        low[k] = j && low[k] < value ? low[k] : value;
        high[k] = j && high[k] > value ? high[k] : value;
      }
    }
    s = low[0] > 0 ? low[0] : high[0] < 0 ? high[0] : 0;
    d = low[1] > 0 ? low[1] : high[1] < 0 ? high[1] : 0;
  }
};

// The columns [first, first + n) of s and d, less a shift, in row y of the images, and zeros up to a whole vector.
template <class T>
LOSSFOLD_INLINE void load_images(const WindowPlane& plane, T shift_s, T shift_d, long y, long first, long n, T* s, T* d) {
  const long row = y - plane.border;
  long from = plane.border - first, to = plane.columns - plane.border - first;  // those that are no border
  from = from < 0 ? 0 : from > n ? n : from;
  to = row < 0 || row >= plane.rows - 2 * plane.border ? from : to < from ? from : to > n ? n : to;
  const long column = first + from - plane.border;
  if (to > from) {
    load(plane.pred_type, plane.pred, row * plane.pred_row + column * plane.pred_column, plane.pred_column, to - from, s + from);
    load(plane.target_type, plane.target, row * plane.target_row + column * plane.target_column, plane.target_column, to - from, d + from);
  }
  for (long i = 0; i < from; ++i) s[i] = d[i] = 0;
  for (long i = to; i < whole(n); ++i) s[i] = d[i] = 0;
  for (long i = 0; i < n; i += Lanes<T>::width) {
    const typename Lanes<T>::V p = at(s, i), t = at(d, i);
    at(s, i) = p + t - shift_s;
    at(d, i) = p - t - shift_d;
  }
}

// The four filtered maps E s, E d, E s^2 and E d^2, a batch of rows of places at a time.
template <class T, int known>
struct Filtered {
  typedef typename Lanes<T>::V V;
  enum { s, d, ss, dd, maps };
  const WindowPlane& plane;
  const Taps<T, known>& taps;
  const Shift<T> shift;
  const long first, n;  // columns of places
  T *sum, *difference;  // a row of the images
  Ring<T, maps> ring;
  long next;  // the row of the images that is filtered next
  const T* rows[maps][most_taps + step];

  Filtered(const WindowPlane& plane_, const Taps<T, known>& taps_, Arena& arena, const Shift<T>& shift_, long row, long column, long columns)
      : plane(plane_), taps(taps_), shift(shift_), first(column), n(columns), ring(arena, columns, plane_.taps), next(row > 0 ? row : 0) {
    sum = take_row<T>(arena, n + most_taps);
    difference = take_row<T>(arena, n + most_taps);
  }
  static long bytes(long columns, long taps) {
    return Ring<T, maps>::bytes(columns, taps) + 2 * (row_size(columns + most_taps) * (long)sizeof(T) + alignment);
  }

  LOSSFOLD_INLINE void along_columns(long y) {
    T* const out[maps] = {ring.at(y, s), ring.at(y, d), ring.at(y, ss), ring.at(y, dd)};
    load_images(plane, shift.s, shift.d, y, first, n + taps.count() - 1, sum, difference);
    for (long i = 0; i < n; i += Lanes<T>::width) {
      V found[maps] = {};
      for (long k = 0; k < taps.count(); ++k) {
        const V a = loose(sum + i + k), b = loose(difference + i + k);
        const T w = taps.weight[k];
        found[s] += w * a;
        found[d] += w * b;
        found[ss] += w * (a * a);
        found[dd] += w * (b * b);
      }
#pragma GCC unroll 4
      for (int m = 0; m < maps; ++m) lossfold::at(out[m], i) = found[m];
    }
  }

  // Go on to the rows of places [y, y + step); those behind the last one are made of zeros.
  void advance(long y) {
    for (; next < plane.rows && next < y + taps.count() - 1 + step; ++next) along_columns(next);
    for (int m = 0; m < maps; ++m) ring.window(y, taps.count(), m, 0, plane.rows, rows[m]);
  }
  // The filtered maps at the columns from i on, [maps][step].
  LOSSFOLD_INLINE void at(long i, V (*found)[step]) const {
#pragma GCC unroll 4
    for (int m = 0; m < maps; ++m) along_rows(taps, rows[m], i, found[m]);
  }
};

// What one place of the window has.
template <class V>
struct Place {
  V s, d, u, v, inverse_l, inverse_k;  // s and d are the means
  template <class T>
  LOSSFOLD_INLINE Place(V shifted_s, V shifted_d, V ss, V dd, const Shift<T>& shift, double c1, double c2)
      : s(shifted_s + shift.s), d(shifted_d + shift.d) {
    V vs = ss - shifted_s * shifted_s, vd = dd - shifted_d * shifted_d;
    vs = vs < 0 ? V{} : vs;
    vd = vd < 0 ? V{} : vd;
    const V l = (T)0.5 * (s * s + d * d) + (T)c1, k = (T)0.5 * (vs + vd) + (T)c2;
    inverse_l = reciprocal(l);  // not of l k: of images far out of range the product overflows
    inverse_k = reciprocal(k);
    u = d * d * inverse_l;
    v = vd * inverse_k;
  }
  LOSSFOLD_INLINE V error() const { return u + v - u * v; }
};

template <class T>
LOSSFOLD_INLINE void load_weights(const WindowPlane& plane, long y, long first, long n, T* weight) {
  if (plane.weight) load(plane.weight_type, plane.weight, (y + plane.inset) * plane.weight_row + (first + plane.inset) * plane.weight_column, plane.weight_column, n, weight);
  else for (long i = 0; i < n; ++i) weight[i] = 1;
  for (long i = n; i < whole(n); ++i) weight[i] = 0;
}

template <class V, class T>
LOSSFOLD_INLINE void set(T* row, long i, V value) {
  *(typename Lanes<T>::Loose*)(row + i) = value;
}

// Where a place's weight is 0, and behind the last place, there is nothing.
template <class T>
LOSSFOLD_INLINE void weigh(const WindowPlane& plane, const T* weight, long n, T* row) {
  if (!plane.weight) {
    for (long i = n; i < whole(n); ++i) row[i] = 0;
    return;
  }
  for (long i = 0; i < n; i += Lanes<T>::width) {
    const typename Lanes<T>::V w = at(weight, i), x = w * loose(row + i);
    set(row, i, w == 0 ? typename Lanes<T>::V{} : x);
  }
}

template <class T, int known>
void fold(const WindowPlane& plane, WindowTile tile, void* work, double* sums) {
  typedef typename Lanes<T>::V V;
  Arena arena{(char*)work};
  const Taps<T, known> taps(plane.window, plane.taps);
  const Shift<T> shift(plane, tile.row, tile.rows + plane.taps - 1, tile.column, tile.columns + plane.taps - 1);
  Filtered<T, known> filtered(plane, taps, arena, shift, tile.row, tile.column, tile.columns);
  const long n = tile.columns;
  T* weight[step];
  for (T*& row : weight) row = take_row<T>(arena, n);
  for (long y = tile.row; y < tile.row + tile.rows; y += step) {
    const long live = tile.row + tile.rows - y < step ? tile.row + tile.rows - y : step;
    filtered.advance(y);
    for (long r = 0; r < live; ++r) load_weights(plane, y + r, tile.column, n, weight[r]);
    V total[step][window_sums] = {};
    for (long i = 0; i < n; i += Lanes<T>::width) {
      V map[4][step];
      filtered.at(i, map);
      for (long r = 0; r < live; ++r) {
        const Place<V> place(map[0][r], map[1][r], map[2][r], map[3][r], filtered.shift, plane.c1, plane.c2);
        const V w = at(weight[r], i), error = w * place.error(), contrast = w * place.v;
        total[r][(int)WindowSum::weight] += w;
        total[r][(int)WindowSum::ssim_error] += w == 0 ? V{} : error;
        total[r][(int)WindowSum::contrast_error] += w == 0 ? V{} : contrast;
      }
    }
    for (long r = 0; r < live; ++r)
      for (int k = 0; k < window_sums; ++k) sums[k] += sum_lanes<T>(total[r][k]);
  }
}

// The sum over a row of w error, of the places that are a tile's own.
template <class T>
LOSSFOLD_INLINE double owned_sum(const T* weight, const T* own, const T* error, long n) {
  typename Lanes<T>::V sum = {};
  for (long i = 0; i < n; i += Lanes<T>::width) {
    const typename Lanes<T>::V w = at(weight, i) * at(own, i), x = w * at(error, i);
    sum += w == 0 ? typename Lanes<T>::V{} : x;
  }
  return sum_lanes<T>(sum);
}

// With a = d loss / d E (p - t) + d loss / d E (p + t), b and g those by E d^2 and E s^2, and E' the adjoint of the filter,
// d loss / d p = E' a + 2 d E' b + 2 s E' g. Of e = u + v - u v, and of v alone (u = 0):
//   b = (1-u) (2-v) / 2K      d loss / d E d = (1-v) (2-u) E d / L - 2 E d b
//   g = -(1-u) v / 2K         d loss / d E s = -(1-v) u E s / L - 2 E s g
// once also adds up the tile's own shares of the loss, of which grad holds the factors: of SSIM's errors, and of w |d|, whose slope
// the pixels get as well.
template <class T, int known, bool once>
void unfold(const WindowPlane& plane, WindowTile tile, void* work, const double* grad, GradientLayout layout, void* grad_pred, double* sums) {
  typedef typename Lanes<T>::V V;
  enum { a, b, g, maps };
  Arena arena{(char*)work};
  const Taps<T, known> taps(plane.window, plane.taps);
  const long reach = plane.taps - 1, middle = reach / 2, place_rows = plane.rows - reach, place_columns = plane.columns - reach;
  // The places that see the tile, and the batch of their rows that comes first; rows above the first place are nothing.
  const long first = tile.column > reach ? tile.column - reach : 0;
  const long last = tile.column + tile.columns < place_columns ? tile.column + tile.columns : place_columns;
  const long n = last > first ? last - first : 0, bottom = tile.row + tile.rows;
  const long ahead = (reach + step - 1) / step * step, top = tile.row > ahead ? tile.row - ahead : -((step - tile.row % step) % step);
  Filtered<T, known> filtered(plane, taps, arena, Shift<T>(plane, tile.row, tile.rows, tile.column, tile.columns), top, first, n);
  Ring<T, maps> ring(arena, tile.columns, plane.taps);
  T *slope[maps][step], *weight = take_row<T>(arena, n), *sum[step], *difference[step];
  for (auto& map : slope)  // with zeros beside the places
    for (T*& row : map) row = take_row<T>(arena, tile.columns + 2 * most_taps) + reach + first - tile.column;
  for (T*& row : sum) row = take_row<T>(arena, tile.columns);
  for (T*& row : difference) row = take_row<T>(arena, tile.columns);
  T *error[step], *own = nullptr, *counted = nullptr;  // of places, which of them are the tile's, and weights of pixels
  if (once) {
    for (T*& row : error) row = take_row<T>(arena, n);
    own = take_row<T>(arena, n), counted = take_row<T>(arena, tile.columns);
    for (long i = 0; i < n; ++i) own[i] = first + i + middle >= tile.column && first + i + middle < tile.column + tile.columns;
  }
  const T of_ssim = (T)grad[once ? 0 : (int)WindowSum::ssim_error], of_contrast = once ? 0 : (T)grad[(int)WindowSum::contrast_error];
  const T of_difference = once ? (T)grad[1] : 0;
  const T* rows[maps][most_taps + step];
  for (long y = top; y < bottom; y += step) {
    const long live = y >= place_rows ? 0 : place_rows - y < step ? place_rows - y : step, begin = y < 0 ? -y : 0;
    if (live) filtered.advance(y);
    for (long i = 0; live && i < n; i += Lanes<T>::width) {
      V map[Filtered<T, known>::maps][step];
      filtered.at(i, map);
      for (long r = begin; r < live; ++r) {
        const Place<V> place(map[0][r], map[1][r], map[2][r], map[3][r], filtered.shift, plane.c1, plane.c2);
        const V u = place.u, v = place.v;
        const V half = (T)0.5 * place.inverse_k * (of_ssim * (1 - u) + of_contrast), by_d = half * (2 - v), by_s = -half * v;
        const V luminance = of_ssim * (1 - v) * place.inverse_l;
        set(slope[a][r], i, luminance * ((2 - u) * place.d - u * place.s) - 2 * (by_d * map[1][r] + by_s * map[0][r]));
        set(slope[b][r], i, 2 * by_d);
        set(slope[g][r], i, 2 * by_s);
        if (once) at(error[r], i) = place.error();
      }
    }
    for (long r = begin; r < live; ++r) {
      load_weights(plane, y + r, first, n, weight);
      if (once && y + r + middle >= tile.row && y + r + middle < bottom) {
        sums[0] += owned_sum<T>(weight, own, error[r], n);
      }
      for (int m = 0; m < maps; ++m) weigh(plane, weight, n, slope[m][r]);
      for (int m = 0; m < maps; ++m) {
        const T* from = slope[m][r] - (reach + first - tile.column);
        T* to = ring.at(y + r, m);
        for (long i = 0; i < tile.columns; i += Lanes<T>::width) {
          V found = {};
          for (long k = 0; k < taps.count(); ++k) found += taps.weight[k] * loose(from + i + k);
          at(to, i) = found;
        }
      }
    }
    if (y < tile.row) continue;
    for (int m = 0; m < maps; ++m) ring.window(y - reach, plane.taps, m, 0, place_rows, rows[m]);
    const long pixels = bottom - y < step ? bottom - y : step;
    for (long r = 0; r < pixels; ++r) load_images(plane, T(0), T(0), y + r, tile.column, tile.columns, sum[r], difference[r]);
    for (long i = 0; i < tile.columns; i += Lanes<T>::width) {
      V map[maps][step];
#pragma GCC unroll 3
      for (int m = 0; m < maps; ++m) along_rows(taps, rows[m], i, map[m]);
      for (long r = 0; r < pixels; ++r) {
        const V of_d = (at(difference[r], i) - filtered.shift.d) * map[b][r], of_s = (at(sum[r], i) - filtered.shift.s) * map[g][r];
        at(sum[r], i) = map[a][r] + (map[b][r] == 0 ? V{} : of_d) + (map[g][r] == 0 ? V{} : of_s);  // NaN too where no window counts
      }
    }
    for (long r = 0; r < pixels; ++r) {
      if (once && of_difference != 0) {
        load_weights(plane, y + r - middle, tile.column - middle, tile.columns, counted);
        const T *d = difference[r], *w = counted;
        sums[1] += weighted_sum(w, tile.columns, [&](long i) { return magnitude(at(d, i)); });
        for (long i = 0; i < tile.columns; i += Lanes<T>::width) at(sum[r], i) += of_difference * at(w, i) * sign_of(at(d, i));
      }
      const long to = (y + r - plane.border) * layout.row_stride + (tile.column - plane.border) * layout.column_stride;
      const bool plain = layout.column_stride == 1 && plane.pred_type == plain_type<T>;
      if (!(layout.stream && plain && stream_row((T*)grad_pred + to, sum[r], tile.columns)))
        store(plane.pred_type, grad_pred, to, layout.column_stride, tile.columns, sum[r]);
    }
  }
  if (layout.stream) finish_streaming();
}

template <class T>
long workspace_of(const WindowPlane& plane, long columns) {
  const long row = row_size(columns + 2 * most_taps) * (long)sizeof(T) + alignment;
  return Filtered<T, 0>::bytes(columns + plane.taps, plane.taps) + Ring<T, 3>::bytes(columns, plane.taps) + (6 * step + 3) * row;
}

bool wide(const WindowPlane& plane) { return plane.pred_type == Type::f64; }

long workspace(const WindowPlane& plane, long columns) { return wide(plane) ? workspace_of<double>(plane, columns) : workspace_of<float>(plane, columns); }
void fold_any(const WindowPlane& plane, WindowTile tile, void* work, double* sums) {
  const auto run = wide(plane) ? fold<double, 0> : plane.taps == usual_taps ? fold<float, usual_taps> : fold<float, 0>;
  run(plane, tile, work, sums);
}
void unfold_any(const WindowPlane& plane, WindowTile tile, void* work, const double* grad, GradientLayout layout, void* grad_pred) {
  const auto run = wide(plane) ? unfold<double, 0, false> : plane.taps == usual_taps ? unfold<float, usual_taps, false> : unfold<float, 0, false>;
  run(plane, tile, work, grad, layout, grad_pred, nullptr);
}
void once_any(const WindowPlane& plane, WindowTile tile, void* work, const double* factors, GradientLayout layout, void* grad_pred, double* sums) {
  const auto run = wide(plane) ? unfold<double, 0, true> : plane.taps == usual_taps ? unfold<float, usual_taps, true> : unfold<float, 0, true>;
  run(plane, tile, work, factors, layout, grad_pred, sums);
}

}  // namespace

extern const WindowKernels LOSSFOLD_LEVEL = {workspace, fold_any, unfold_any, once_any};

}  // namespace lossfold

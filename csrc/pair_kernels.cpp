// The pair fold's kernels. Compiled once per SIMD level; LOSSFOLD_LEVEL names the table.

#include "pair_once.h"
#include "pair_pyramid.h"
#include "pair_steps.h"
#include "pair_stencil.h"

namespace lossfold {
namespace {

template <class T>
long workspace_of(const PairPlane& plane, long tile) {
  return Rows<T>::bytes(plane, tile) + 2 * Weights<T>::bytes(plane, tile) + Stencil<T>::bytes(tile) + Steps<T>::bytes(tile) +
         Descent<T>::bytes(tile) + Ascent<T>::bytes(tile) + 2 * (row_size(tile) * (long)sizeof(T) + alignment);
}

template <class T>
void fold(const PairPlane& plane, long begin, long end, long tile, void* work, double* sums, BadTarget* bad) {
  Arena arena{(char*)work};
  Rows<T> rows(plane, arena, tile);
  Weights<T> weights(plane, arena, tile, bad);
  Stencil<T> stencil(plane, rows, arena, tile, false);
  Steps<T> steps(plane, rows, arena, tile);
  const long tiles = (plane.columns + tile - 1) / tile;
  for (long unit = begin; unit < end; ++unit) {
    const long y = unit / tiles, first = unit % tiles * tile, n = first + tile < plane.columns ? tile : plane.columns - first;
    rows.tile(first, n);
    weights.row(y, first, n);
    const T* d = rows.d(y);
    for (int k = 0; k < plane.sums; ++k)
      if (of_pixels(plane.sum[k].kind)) sums[k] += pixel_sum(plane.sum[k], d, weights.of(plane.sum[k].where), n);
    if (stencil.used()) stencil.fold(y, weights, sums);
    if (steps.used()) steps.fold(y, weights, sums);
  }
}

template <class T>
void down(const PairPlane& plane, const PairLevel& at, int level, const PairLevel& next, long begin, long end, void* work, double* sums) {
  Arena arena{(char*)work};
  Rows<T> rows(plane, arena, plane.columns);
  Weights<T> weights(plane, arena, plane.columns);
  Descent<T>(plane, LevelRows<T>{rows, at}, arena).run(next, level, begin, end, weights, sums);
}

template <class T>
void rest(const PairPlane& plane, const PairLevel& level, int k, signed char* signs, long begin, long end, void* work, double* sums) {
  Arena arena{(char*)work};
  Rows<T> rows(plane, arena, plane.columns);
  Weights<T> weights(plane, arena, plane.columns);
  const LevelRows<T> source{rows, level};
  const long n = level.columns;
  T* row = take_row<T>(arena, n);
  for (long y = begin; y < end; ++y) {
    const T* g = source.row(y);
    for (long j = 0; j < n; ++j) row[j] = g[j];
    weights.row(y, 0, n);
    const bool values = plane.sum[k].kind == PairKind::low_pass;
    sums[k] += weighted_sum(weights.of(plane.sum[k].where), n, [&](long j) { return values ? magnitude(lossfold::at(row, j)) : typename Lanes<T>::V{} + 1; });
    if (signs)
      for (long j = 0; j < n; ++j) signs[y * n + j] = (row[j] > 0) - (row[j] < 0);
  }
}

template <class T>
void up(const PairPlane& plane, const PairLevel* levels, int level, const double* grad, const signed char* const* rest, long begin,
        long end, void* work) {
  Arena arena{(char*)work};
  Weights<T> weights(plane, arena, plane.columns);
  Ascent<T> ascent(plane, levels, grad, rest, arena);
  const long n = levels[level].columns;
  for (long y = begin; y < end; ++y) {
    T* out = (T*)levels[level].image + y * n;
    for (long j = 0; j < n; ++j) out[j] = 0;
    ascent.add_row(level, y, weights, out);
    ascent.take_from_above(level, y, weights, out);
  }
}

template <class T>
void unfold(const PairPlane& plane, const PairLevel* levels, long begin, long end, long tile, void* work, const double* grad,
            const signed char* const* rest, GradientLayout layout, void* grad_pred) {
  Arena arena{(char*)work};
  Rows<T> rows(plane, arena, tile);
  Weights<T> weights(plane, arena, tile), beside(plane, arena, tile);
  Stencil<T> stencil(plane, rows, arena, tile, true);
  Steps<T> steps(plane, rows, arena, tile);
  const PairLevel none{nullptr, nullptr, 0, 0};
  Ascent<T> pyramid(plane, levels ? levels : &none, grad, rest, arena);
  T* out = take_row<T>(arena, tile);
  const long tiles = (plane.columns + tile - 1) / tile;
  for (long unit = begin; unit < end; ++unit) {
    const long y = unit / tiles, first = unit % tiles * tile, n = first + tile < plane.columns ? tile : plane.columns - first;
    rows.tile(first, n);
    weights.row(y, first, n);
    for (long i = 0; i < whole(n); ++i) out[i] = 0;
    const T* d = rows.d(y);
    for (int k = 0; k < plane.sums; ++k)
      if (of_pixels(plane.sum[k].kind)) add_pixel_slope(plane.sum[k], (T)grad[k], d, weights.of(plane.sum[k].where), n, out);
    if (stencil.used()) stencil.unfold(y, beside, grad, out);
    if (steps.used()) steps.unfold(y, beside, grad, out);
    if (levels) pyramid.add_row(0, y, beside, out);
    if (plane.sigmoid) {
      const T* slope = rows.slope[rows.need(y)];
      for (long i = 0; i < n; ++i) out[i] = out[i] == 0 ? 0 : out[i] * slope[i];  // where nothing counts, predictions may be NaN
    }
    const long to = y * layout.row_stride + first * layout.column_stride;
    const bool plain = layout.column_stride == 1 && plane.pred_type == (sizeof(T) == 4 ? Type::f32 : Type::f64);
    if (!(layout.stream && plain && stream_row((T*)grad_pred + to, out, n))) store(plane.pred_type, grad_pred, to, layout.column_stride, n, out);
  }
  if (layout.stream) finish_streaming();
}

bool wide(const PairPlane& plane) { return plane.pred_type == Type::f64; }

long workspace(const PairPlane& plane, long tile) { return wide(plane) ? workspace_of<double>(plane, tile) : workspace_of<float>(plane, tile); }
void fold_any(const PairPlane& plane, long begin, long end, long tile, void* work, double* sums, BadTarget* bad) {
  (wide(plane) ? fold<double> : fold<float>)(plane, begin, end, tile, work, sums, bad);
}
void down_any(const PairPlane& plane, const PairLevel& at, int level, const PairLevel& next, long begin, long end, void* work, double* sums) {
  (wide(plane) ? down<double> : down<float>)(plane, at, level, next, begin, end, work, sums);
}
void rest_any(const PairPlane& plane, const PairLevel& at, int sum, signed char* signs, long begin, long end, void* work, double* sums) {
  (wide(plane) ? rest<double> : rest<float>)(plane, at, sum, signs, begin, end, work, sums);
}
void up_any(const PairPlane& plane, const PairLevel* levels, int level, const double* grad, const signed char* const* rest, long begin,
            long end, void* work) {
  (wide(plane) ? up<double> : up<float>)(plane, levels, level, grad, rest, begin, end, work);
}
void unfold_any(const PairPlane& plane, const PairLevel* levels, long begin, long end, long tile, void* work, const double* grad,
                const signed char* const* rest, GradientLayout layout, void* grad_pred) {
  (wide(plane) ? unfold<double> : unfold<float>)(plane, levels, begin, end, tile, work, grad, rest, layout, grad_pred);
}
double once_any(const PairSum& sum, double factor, Type pred_type, const void* pred, Type target_type, const void* target, long n, void* out, bool stream) {
  return (pred_type == Type::f64 ? once<double> : once<float>)(sum, factor, pred_type, pred, target_type, target, n, out, stream);
}

}  // namespace

extern const PairKernels LOSSFOLD_LEVEL = {workspace, fold_any, down_any, rest_any, up_any, unfold_any, once_any};

}  // namespace lossfold

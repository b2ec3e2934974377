// The window fold's operators, and how their work is cut into tiles that run on torch's threads.

#include "levels.h"
#include "problem.h"
#include "window.h"

namespace lossfold {
namespace {

const WindowKernels& window_kernels() {
#if defined(LOSSFOLD_X86_LEVELS)
  if (level() == Level::v4) return window_kernels_v4;
  if (level() == Level::v3) return window_kernels_v3;
#endif
  return window_kernels_baseline;
}

// Tiles follow the shape alone, so that sums are the same bits on any number of threads. Their rows fit in the caches; each
// batch of rows starts at a multiple of eight.
constexpr int64_t tile_rows = 128, tile_columns = 512;

struct Tiles {
  int64_t rows, columns, height, width, down, across;
  Tiles(int64_t rows_, int64_t columns_) : rows(rows_), columns(columns_) {
    down = std::max<int64_t>(1, (rows + tile_rows - 1) / tile_rows);
    across = std::max<int64_t>(1, (columns + tile_columns - 1) / tile_columns);
    height = ((rows + down - 1) / down + 7) / 8 * 8;
    width = ((columns + across - 1) / across + 15) / 16 * 16;
  }
  int64_t count() const { return down * across; }
  WindowTile at(int64_t i) const {
    const int64_t row = i / across * height, column = i % across * width;
    return {row, std::min(height, rows - row), column, std::min(width, columns - column)};
  }
};

// Predictions and targets [B, C, H, W], weights of the window's places [B, 1 or C, H - taps + 1, W - taps + 1].
struct WindowProblem {
  Tensor pred, target;
  std::optional<Tensor> weight;
  std::vector<double> window;
  WindowPlane plane;
  int64_t channels, planes;

  WindowProblem(const Tensor& pred_, const Tensor& target_, const std::optional<Tensor>& weight_, const std::vector<double>& window_, double c1, double c2)
      : pred(pred_), target(target_), weight(weight_), window(window_) {
    STD_TORCH_CHECK(pred.dim() == 4 && target.dim() == 4, "lossfold: malformed predictions");
    for (int64_t d = 0; d < 4; ++d) STD_TORCH_CHECK(pred.size(d) == target.size(d), "lossfold: sizes of predictions and targets differ");
    const int64_t taps = window.size(), rows = pred.size(2) - taps + 1, columns = pred.size(3) - taps + 1;
    STD_TORCH_CHECK(taps > 0 && taps <= most_taps && rows > 0 && columns > 0, "lossfold: malformed window");
    channels = pred.size(1), planes = pred.size(0) * channels;
    plane = {nullptr, nullptr, type_of(pred, "the prediction"), type_of(target, "the target"), pred.stride(2), pred.stride(3), target.stride(2), target.stride(3),
             pred.size(2), pred.size(3), nullptr, Type::f32, 0, 0, static_cast<int>(taps), nullptr, c1, c2};
    STD_TORCH_CHECK(plane.pred_type <= Type::bf16, "lossfold: the dtype of the prediction");
    if (weight) {
      STD_TORCH_CHECK(weight->dim() == 4 && weight->size(0) == pred.size(0) && (weight->size(1) == 1 || weight->size(1) == channels) &&
                          weight->size(2) == rows && weight->size(3) == columns, "lossfold: malformed weights");
      plane.weight_type = type_of(*weight, "the weight"), plane.weight_row = weight->stride(2), plane.weight_column = weight->stride(3);
    }
  }
  WindowPlane at(int64_t i) const {
    WindowPlane one = plane;
    const int64_t image = i / channels, channel = i % channels;
    one.pred = Problem::offset(pred, image * pred.stride(0) + channel * pred.stride(1));
    one.target = Problem::offset(target, image * target.stride(0) + channel * target.stride(1));
    if (weight) one.weight = Problem::offset(*weight, image * weight->stride(0) + (weight->size(1) == 1 ? 0 : channel) * weight->stride(1));
    one.window = window.data();
    return one;
  }
  template <class Work>
  void run(const Tiles& tiles, const Work& work) const {
    const int64_t pieces = planes * tiles.count();
    in_parallel(pieces, workers_for(pieces, 8 * planes * plane.rows * plane.columns), window_kernels().workspace(plane, tiles.width), [&](int64_t i, char* memory, int64_t) {
      const WindowTile tile = tiles.at(i % tiles.count());
      if (tile.rows > 0 && tile.columns > 0) work(i, at(i / tiles.count()), tile, memory);
    });
  }
};

Tensor window_fold(Tensor pred, Tensor target, std::optional<Tensor> weight, std::vector<double> window, double c1, double c2) {
  const WindowProblem problem(pred, target, weight, window, c1, c2);
  const Tiles tiles(pred.size(2) - problem.plane.taps + 1, pred.size(3) - problem.plane.taps + 1);
  std::vector<double> parts(problem.planes * tiles.count() * window_sums, 0.0);
  problem.run(tiles, [&](int64_t i, const WindowPlane& plane, const WindowTile& tile, void* work) {
    window_kernels().fold(plane, tile, work, parts.data() + i * window_sums);
  });
  Tensor sums = torch::stable::new_zeros(pred, {pred.size(0), window_sums, problem.channels}, ScalarType::Double);
  double* out = static_cast<double*>(sums.mutable_data_ptr());
  for (int64_t i = 0; i < problem.planes * tiles.count(); ++i)
    for (int64_t k = 0; k < window_sums; ++k) {
      const int64_t plane = i / tiles.count();
      out[(plane / problem.channels * window_sums + k) * problem.channels + plane % problem.channels] += parts[i * window_sums + k];
    }
  return sums;
}

Tensor window_unfold(std::optional<Tensor> grad_sums, Tensor pred, Tensor target, std::optional<Tensor> weight, std::vector<double> window, double c1, double c2) {
  const WindowProblem problem(pred, target, weight, window, c1, c2);
  const Tensor grad = torch::stable::contiguous(*grad_sums);
  STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.numel() == problem.planes * window_sums, "lossfold: malformed gradient");
  const double* slopes = static_cast<const double*>(grad.const_data_ptr());
  Tensor result = torch::stable::empty_like(pred);
  advise_huge_pages(result);
  char* out = static_cast<char*>(result.mutable_data_ptr());
  const int64_t size = result.element_size();
  const GradientLayout layout{0, 0, result.numel() * size >= large_result, result.stride(2), result.stride(3), 0};
  const Tiles tiles(pred.size(2), pred.size(3));
  problem.run(tiles, [&](int64_t i, const WindowPlane& plane, const WindowTile& tile, void* work) {
    const int64_t image = i / tiles.count() / problem.channels, channel = i / tiles.count() % problem.channels;
    double mine[window_sums];
    for (int64_t k = 0; k < window_sums; ++k) mine[k] = slopes[(image * window_sums + k) * problem.channels + channel];
    window_kernels().unfold(plane, tile, work, mine, layout, out + (image * result.stride(0) + channel * result.stride(1)) * size);
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r6, CPU, m) {
  m.impl("window_fold", TORCH_BOX(&window_fold));
  m.impl("window_unfold", TORCH_BOX(&window_unfold));
}

}  // namespace lossfold

// The pair fold's operators, and how their work is cut into bands of rows that run on torch's threads.

#include <algorithm>
#include <functional>

#include "levels.h"
#include "pair.h"
#include "problem.h"

namespace lossfold {
namespace {

const PairKernels& pair_kernels() {
#if defined(LOSSFOLD_X86_LEVELS)
  if (level() == Level::v4) return pair_kernels_v4;
  if (level() == Level::v3) return pair_kernels_v3;
#endif
  return pair_kernels_baseline;
}

constexpr int64_t band_pixels = 1 << 16;

// Units (rows, or tiles of them) of a plane in bands that follow the shape alone, so that sums are the same bits on any number
// of threads; with a pyramid the bands are long enough to make the rows that two of them read worth it.
struct Bands {
  int64_t units, size, count;
  Bands(int64_t units_, int64_t pixels_of_unit) : units(units_) {
    size = std::clamp<int64_t>(band_pixels / std::max<int64_t>(1, pixels_of_unit) / 2 * 2, 16, std::max<int64_t>(16, units));
    count = (units + size - 1) / size;
  }
  int64_t begin(int64_t i) const { return i * size; }
  int64_t end(int64_t i) const { return std::min(units, (i + 1) * size); }
};

// Predictions and targets [B, C, H, W], maps [B, 1 or C, h, w] (those of the pyramid's levels have their sizes).
struct PairProblem {
  Tensor pred, target;
  std::vector<Tensor> maps;
  std::vector<PairSum> sums;
  std::vector<PairMap> map;  // of every plane
  PairPlane plane;
  int64_t batch, channels, planes, tile, tiles, bytes;
  bool pyramid = false;
  std::vector<PairLevel> levels;  // their sizes

  PairProblem(const Tensor& pred_, const Tensor& target_, const std::vector<Tensor>& maps_, int64_t in_unit, int64_t link,
              const std::vector<int64_t>& kinds, const std::vector<double>& numbers, const std::vector<int64_t>& where)
      : pred(pred_), target(target_), maps(maps_) {
    STD_TORCH_CHECK(pred.dim() == 4 && target.dim() == 4, "lossfold: malformed predictions");
    for (int64_t d = 0; d < 4; ++d) STD_TORCH_CHECK(pred.size(d) == target.size(d), "lossfold: sizes of predictions and targets differ");
    STD_TORCH_CHECK(kinds.size() == numbers.size() && kinds.size() == where.size() && maps.size() <= most_maps, "lossfold: malformed sums");
    batch = pred.size(0), channels = pred.size(1), planes = batch * channels;
    plane = {nullptr, nullptr, type_of(pred, "the prediction"), type_of(target, "the target"), pred.stride(2), pred.stride(3),
             target.stride(2), target.stride(3), pred.size(2), pred.size(3), link != 0, static_cast<int>(maps.size()), static_cast<int>(kinds.size()), nullptr, nullptr};
    STD_TORCH_CHECK(plane.pred_type <= Type::bf16, "lossfold: the dtype of the prediction");
    bool by_rows = false;
    int64_t depth = 0;
    for (size_t k = 0; k < kinds.size(); ++k) {
      const PairKind kind = static_cast<PairKind>(kinds[k]);
      STD_TORCH_CHECK(kinds[k] >= 0 && kind < PairKind::count && where[k] < 2 * static_cast<int64_t>(maps.size()), "lossfold: malformed sums");
      sums.push_back({kind, numbers[k], static_cast<int>(where[k])});
      by_rows |= !of_pixels(kind);
      if (of_level(kind)) depth = std::max<int64_t>(depth, static_cast<int64_t>(numbers[k]) + 1);
      if (of_rest(kind)) depth = std::max<int64_t>(depth, static_cast<int64_t>(numbers[k]));
      pyramid |= of_level(kind) || of_rest(kind);
    }
    tile = by_rows ? plane.columns : std::min<int64_t>(plane.columns, 1024);
    tiles = plane.columns ? (plane.columns + tile - 1) / tile : 0;
    levels.push_back({nullptr, nullptr, plane.rows, plane.columns});
    while (static_cast<int64_t>(levels.size()) <= depth && std::min(levels.back().rows, levels.back().columns) >= 4)
      levels.push_back({nullptr, nullptr, levels.back().rows / 2, levels.back().columns / 2});
    for (int64_t i = 0; i < planes; ++i)
      for (size_t m = 0; m < maps.size(); ++m) {
        const Tensor& one = maps[m];
        STD_TORCH_CHECK(one.dim() == 4 && one.size(0) == batch && (one.size(1) == 1 || one.size(1) == channels), "lossfold: malformed map");
        const int64_t channel = one.size(1) == 1 ? 0 : i % channels;
        map.push_back({Problem::offset(one, i / channels * one.stride(0) + channel * one.stride(1)), type_of(one, "a region"), one.stride(2), one.stride(3),
                       (in_unit >> m & 1) != 0});
      }
    plane.sum = sums.data();
    bytes = pair_kernels().workspace(plane, tile);
  }
  PairPlane at(int64_t i) const {
    PairPlane one = plane;
    one.pred = Problem::offset(pred, i / channels * pred.stride(0) + i % channels * pred.stride(1));
    one.target = Problem::offset(target, i / channels * target.stride(0) + i % channels * target.stride(1));
    one.map = map.data() + i * maps.size();
    return one;
  }
  int64_t workers(int64_t pieces) const { return workers_for(pieces, 2 * planes * plane.rows * plane.columns); }
  Bands bands() const { return Bands(plane.rows * tiles, tile); }
  // Where sum k of plane i stands in [B, sums, C].
  int64_t place(int64_t i, int64_t k) const { return (i / channels * static_cast<int64_t>(sums.size()) + k) * channels + i % channels; }
  int last() const { return static_cast<int>(levels.size()) - 1; }

  // Where a sum of what is left is taken.
  int rest_level(const PairSum& sum) const { return std::min(last(), static_cast<int>(sum.number)); }

  // A plane's signs: of the coefficients of each level, then of what is left for each sum of it.
  int64_t signs_of_plane() const {
    int64_t total = 0;
    for (int l = 0; l < last(); ++l) total += levels[l].even_rows() * levels[l].even_columns();
    for (const PairSum& sum : sums)
      if (sum.kind == PairKind::low_pass) total += levels[rest_level(sum)].rows * levels[rest_level(sum)].columns;
    return pyramid ? total : 0;
  }
  int64_t images_of_plane() const {
    int64_t total = 0;
    for (int l = 1; l <= last(); ++l) total += levels[l].rows * levels[l].columns;
    return pyramid ? total : 0;
  }
  // The levels of plane i, over the signs and the images of all planes.
  std::vector<PairLevel> levels_of(int64_t i, signed char* signs, char* images, std::vector<signed char*>* rest) const {
    const int64_t size = plane.pred_type == Type::f64 ? 8 : 4;
    std::vector<PairLevel> mine = levels;
    signs += i * signs_of_plane();
    images += i * images_of_plane() * size;
    for (int l = 0; l <= last(); ++l) {
      if (l < last()) mine[l].signs = signs, signs += mine[l].even_rows() * mine[l].even_columns();
      if (l > 0) mine[l].image = images, images += mine[l].rows * mine[l].columns * size;
    }
    rest->assign(sums.size(), nullptr);
    for (size_t k = 0; k < sums.size(); ++k)
      if (sums[k].kind == PairKind::low_pass) (*rest)[k] = signs, signs += mine[rest_level(sums[k])].rows * mine[rest_level(sums[k])].columns;
    return mine;
  }
  Tensor new_images() const {
    Tensor images = torch::stable::new_empty(pred, {planes * images_of_plane()}, plane.pred_type == Type::f64 ? ScalarType::Double : ScalarType::Float);
    advise_huge_pages(images);
    return images;
  }
};

// What is done to every band of every plane.
struct Step {
  Bands bands;
  std::function<void(int64_t plane, int64_t band, char* workspace)> work;
};

// The bands of all planes at once, of steps that need nothing of each other.
void run_together(const PairProblem& problem, const std::vector<Step>& steps) {
  int64_t tasks = 0;
  for (const Step& step : steps) tasks += problem.planes * step.bands.count;
  in_parallel(tasks, problem.workers(tasks), problem.bytes, [&](int64_t i, char* memory, int64_t) {
    size_t at = 0;
    for (; i >= problem.planes * steps[at].bands.count; ++at) i -= problem.planes * steps[at].bands.count;
    steps[at].work(i / steps[at].bands.count, i % steps[at].bands.count, memory);
  });
}

// The planes at once, each one's steps in order.
void run_planes(const PairProblem& problem, const std::vector<Step>& steps) {
  if (steps.empty()) return;
  in_parallel(problem.planes, problem.workers(problem.planes), problem.bytes, [&](int64_t plane, char* memory, int64_t) {
    for (const Step& step : steps)
      for (int64_t band = 0; band < step.bands.count; ++band) step.work(plane, band, memory);
  });
}

// Every wait of threads for each other costs; where planes keep all threads busy there is but one.
bool planes_suffice(const PairProblem& problem) {
  const int64_t threads = torch::stable::get_num_threads();
  return problem.planes % threads == 0 || problem.planes >= 4 * threads;
}

// The sums of a step's bands, which are added in their order.
struct Parts {
  Bands bands;
  std::vector<double> sums;
  std::vector<BadTarget> bad;
};

std::tuple<Tensor, Tensor> pair_fold(Tensor pred, Tensor target, std::vector<Tensor> maps, int64_t in_unit, int64_t link,
                                     std::vector<int64_t> kinds, std::vector<double> numbers, std::vector<int64_t> where) {
  const PairProblem problem(pred, target, maps, in_unit, link, kinds, numbers, where);
  const int64_t count = problem.sums.size(), planes = problem.planes;
  const PairKernels& kernels = pair_kernels();
  Tensor signs = torch::stable::new_empty(pred, {planes * problem.signs_of_plane()}, ScalarType::Byte), images = problem.new_images();
  advise_huge_pages(signs);
  signed char* all_signs = static_cast<signed char*>(signs.mutable_data_ptr());
  char* all_images = static_cast<char*>(images.mutable_data_ptr());
  std::vector<std::unique_ptr<Parts>> parts;
  // A step that adds to the sums: sum(plane, levels, the signs of what is left, begin, end, workspace, sums, a value out of range).
  const auto adding = [&](const Bands& bands, auto sum) {
    Parts* mine = parts.emplace_back(new Parts{bands, std::vector<double>(planes * bands.count * count, 0.0), std::vector<BadTarget>(planes * bands.count)}).get();
    return Step{bands, [=, &problem](int64_t plane, int64_t band, char* work) {
      std::vector<signed char*> rest;
      const auto levels = problem.levels_of(plane, all_signs, all_images, &rest);
      const int64_t i = plane * mine->bands.count + band;
      sum(problem.at(plane), levels.data(), rest.data(), mine->bands.begin(band), mine->bands.end(band), work, mine->sums.data() + i * count, &mine->bad[i]);
    }};
  };
  std::vector<Step> steps = {adding(problem.bands(), [&](const PairPlane& plane, const PairLevel*, signed char**, int64_t begin, int64_t end, char* work, double* sums, BadTarget* bad) {
    kernels.fold(plane, begin, end, problem.tile, work, sums, bad);
  })};
  for (int l = 0; problem.pyramid && l < problem.last(); ++l)
    steps.push_back(adding(Bands(problem.levels[l + 1].rows, 2 * problem.levels[l].columns), [&, l](const PairPlane& plane, const PairLevel* levels, signed char**, int64_t begin, int64_t end, char* work, double* sums, BadTarget*) {
      kernels.down(plane, levels[l], l, levels[l + 1], begin, end, work, sums);
    }));
  for (int k = 0; k < count; ++k) {
    if (!of_rest(problem.sums[k].kind)) continue;
    const int l = problem.rest_level(problem.sums[k]);
    steps.push_back(adding(Bands(problem.levels[l].rows, problem.levels[l].columns), [&, l, k](const PairPlane& plane, const PairLevel* levels, signed char** rest, int64_t begin, int64_t end, char* work, double* sums, BadTarget*) {
      kernels.rest(plane, levels[l], k, rest[k], begin, end, work, sums);
    }));
  }
  if (steps.size() > 1 && planes_suffice(problem)) {
    run_planes(problem, steps);
  } else {
    const size_t first = std::min<size_t>(steps.size(), problem.pyramid && problem.last() > 0 ? 2 : 1), second = std::min(steps.size(), first + 1);
    run_together(problem, {steps.begin(), steps.begin() + first});
    if (second > first) run_together(problem, {steps.begin() + first, steps.begin() + second});
    run_planes(problem, {steps.begin() + second, steps.end()});
  }
  Tensor sums = torch::stable::new_zeros(pred, {problem.batch, count, problem.channels}, ScalarType::Double);
  double* out = static_cast<double*>(sums.mutable_data_ptr());
  for (const auto& one : parts) {
    for (const BadTarget& bad : one->bad) STD_TORCH_CHECK(!bad.found, "lossfold: a region value ", bad.target, " is out of range [0, 1]");
    for (int64_t i = 0; i < planes * one->bands.count; ++i)
      for (int64_t k = 0; k < count; ++k) out[problem.place(i / one->bands.count, k)] += one->sums[i * count + k];
  }
  return {sums, signs};
}

Tensor pair_unfold(std::optional<Tensor> grad_sums, Tensor signs, Tensor pred, Tensor target, std::vector<Tensor> maps, int64_t in_unit, int64_t link,
                   std::vector<int64_t> kinds, std::vector<double> numbers, std::vector<int64_t> where) {
  const PairProblem problem(pred, target, maps, in_unit, link, kinds, numbers, where);
  const PairKernels& kernels = pair_kernels();
  const int64_t count = problem.sums.size(), planes = problem.planes;
  const Tensor grad = torch::stable::contiguous(*grad_sums);
  STD_TORCH_CHECK(grad.scalar_type() == ScalarType::Double && grad.numel() == planes * count, "lossfold: malformed gradient");
  STD_TORCH_CHECK(signs.numel() == planes * problem.signs_of_plane(), "lossfold: malformed signs");
  std::vector<double> factors(planes * count);
  for (int64_t i = 0; i < planes; ++i)
    for (int64_t k = 0; k < count; ++k) factors[i * count + k] = static_cast<const double*>(grad.const_data_ptr())[problem.place(i, k)];
  Tensor images = problem.new_images(), result = torch::stable::empty_like(pred);
  advise_huge_pages(result);
  signed char* all_signs = static_cast<signed char*>(const_cast<void*>(signs.const_data_ptr()));
  char* all_images = static_cast<char*>(images.mutable_data_ptr());
  const auto step = [&](const Bands& bands, auto work) {
    return Step{bands, [=, &problem, &factors](int64_t plane, int64_t band, char* memory) {
      std::vector<signed char*> rest;
      const auto levels = problem.levels_of(plane, all_signs, all_images, &rest);
      work(plane, levels.data(), rest.data(), bands.begin(band), bands.end(band), memory, factors.data() + plane * count);
    }};
  };
  std::vector<Step> steps;
  for (int l = problem.last(); problem.pyramid && l > 0; --l)
    steps.push_back(step(Bands(problem.levels[l].rows, 4 * problem.levels[l].columns), [&, l](int64_t i, const PairLevel* levels, signed char** rest, int64_t begin, int64_t end, char* memory, const double* mine) {
      kernels.up(problem.at(i), levels, l, mine, rest, begin, end, memory);
    }));
  char* out = static_cast<char*>(result.mutable_data_ptr());
  const int64_t size = result.element_size();
  const GradientLayout layout{0, 0, result.numel() * size >= large_result, result.stride(2), result.stride(3), 0};
  steps.push_back(step(problem.bands(), [&](int64_t i, const PairLevel* levels, signed char** rest, int64_t begin, int64_t end, char* memory, const double* mine) {
    const int64_t start = i / problem.channels * result.stride(0) + i % problem.channels * result.stride(1);
    kernels.unfold(problem.at(i), problem.pyramid ? levels : nullptr, begin, end, problem.tile, memory, mine, rest, layout, out + start * size);
  }));
  if (steps.size() > 1 && planes_suffice(problem)) {
    run_planes(problem, steps);
  } else {
    const size_t wide = std::min<size_t>(steps.size(), 2);
    run_planes(problem, {steps.begin(), steps.end() - wide});
    for (auto one = steps.end() - wide; one != steps.end(); ++one) run_together(problem, {*one});
  }
  return result;
}

// Whether the elements of two tensors lie in the same order, each in a place of its own, without gaps.
bool side_by_side(const Tensor& one, const Tensor& other) {
  std::vector<std::pair<int64_t, int64_t>> sides;  // strides and sizes
  for (int64_t d = 0; d < one.dim(); ++d) {
    if (one.size(d) == 1) continue;
    if (one.stride(d) != other.stride(d)) return false;
    sides.emplace_back(one.stride(d), one.size(d));
  }
  std::sort(sides.begin(), sides.end());
  int64_t span = 1;
  for (const auto& [stride, size] : sides) {
    if (stride != span) return false;
    span *= size;
  }
  return true;
}

std::tuple<Tensor, Tensor> pair_once(Tensor pred, Tensor target, std::vector<Tensor> maps, Tensor above, std::optional<Tensor> below, int64_t in_unit,
                                     int64_t link, std::vector<int64_t> kinds, std::vector<double> numbers, std::vector<int64_t> where) {
  const PairProblem problem(pred, target, maps, in_unit, link, kinds, numbers, where);
  const int64_t rows = kinds.size(), n = pred.numel(), piece = 1 << 15, pieces = (n + piece - 1) / piece;
  STD_TORCH_CHECK(maps.empty() && link == 0 && !below && above.scalar_type() == ScalarType::Double && above.numel() == rows && above.is_contiguous(), "lossfold: malformed coefficients");
  const double* const factors = static_cast<const double*>(above.const_data_ptr());
  int64_t k = -1;
  for (int64_t j = 0; j < rows; ++j) {
    if (factors[j] == 0) continue;
    STD_TORCH_CHECK(k < 0 && of_pixels(problem.sums[j].kind) && problem.sums[j].kind != PairKind::weight, "lossfold: malformed coefficients");
    k = j;
  }
  if (!side_by_side(pred, target)) pred = torch::stable::contiguous(pred), target = torch::stable::contiguous(target);
  Tensor grad = torch::stable::empty_like(pred);
  advise_huge_pages(grad);
  if (k < 0) torch::stable::zero_(grad);
  const int64_t wide = grad.element_size();
  std::vector<double> parts(k < 0 ? 0 : pieces, 0.0);
  in_parallel(parts.size(), workers_for(pieces, 2 * n), 0, [&](int64_t i, char*, int64_t) {
    const int64_t from = i * piece;
    parts[i] = pair_kernels().once(problem.sums[k], factors[k], problem.plane.pred_type, Problem::offset(pred, from), problem.plane.target_type,
                                   Problem::offset(target, from), std::min(piece, n - from), static_cast<char*>(grad.mutable_data_ptr()) + from * wide,
                                   n * wide >= large_result);
  });
  return {scalar(k < 0 ? 0.0 : factors[k] * std::accumulate(parts.begin(), parts.end(), 0.0), pred), grad};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r6, CPU, m) {
  m.impl("pair_fold", TORCH_BOX(&pair_fold));
  m.impl("pair_once", TORCH_BOX(&pair_once));
  m.impl("pair_unfold", TORCH_BOX(&pair_unfold));
}

}  // namespace lossfold

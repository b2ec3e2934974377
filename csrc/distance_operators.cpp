// The operator of distance transforms, and how its work is shared out.

#include "distance.h"
#include "levels.h"
#include "problem.h"

namespace lossfold {
namespace {

const DistanceKernels& distance_kernels() {
#if defined(LOSSFOLD_X86_LEVELS)
  if (level() == Level::v4) return distance_kernels_v4;
  if (level() == Level::v3) return distance_kernels_v3;
#endif
  return distance_kernels_baseline;
}

constexpr int64_t strip = 512;       // columns that are scanned together
constexpr int64_t known_halves = 4096;
constexpr int nowhere = 0xffff;      // the code of ignored labels
constexpr int64_t most_exact = 1 << 24;  // steps that float counts

// Labels as codes, and which classes each image has; others than 0 .. classes - 1 and the ignored one are refused.
template <class S>
void encode(const Tensor& labels, int64_t classes, int64_t ignore_index, uint16_t* codes, uint8_t* present) {
  const S* from = static_cast<const S*>(labels.const_data_ptr());
  const int64_t images = labels.size(0), pixels = images ? labels.numel() / images : 0;
  int64_t bad = 0;
  bool wrong = false;
  for (int64_t b = 0; b < images; ++b, from += pixels, codes += pixels, present += classes)
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t y = from[i];
      const bool ignored = y == ignore_index, inside = y >= 0 && y < classes;
      if (inside && !ignored) present[y] = 1;
      if (!inside && !ignored) wrong = true, bad = y;
      codes[i] = ignored ? nowhere : static_cast<uint16_t>(y);
    }
  STD_TORCH_CHECK(!wrong, "lossfold: labels must be in 0 .. ", classes - 1, " or ", ignore_index, ", got ", bad);
}

struct Distances {
  DistanceVolume volume{};
  std::vector<double> halves;
  std::vector<uint16_t> codes;
  std::vector<uint8_t> present;  // [images, classes]
  std::vector<double> spacing;
  Tensor given, result;
  int64_t volumes, channels;  // channels: results of one volume of codes
  int64_t pixels;

  // masks [N, *S] (classes 0) or labels [N, *S], S of three sizes; spacing [N, 3].
  Distances(const Tensor& given_, int64_t classes, int64_t ignore_index, const std::vector<double>& spacing_, bool is_signed, double inner, double outer, bool squared)
      : spacing(spacing_), given(torch::stable::contiguous(given_)) {
    STD_TORCH_CHECK(given.dim() == 4 && classes >= 0 && classes < nowhere, "lossfold: malformed masks");
    channels = classes ? classes : 1, volumes = given.size(0) * channels;
    volume.slices = given.size(1), volume.rows = given.size(2), volume.columns = given.size(3);
    pixels = volume.slices * volume.rows * volume.columns;
    STD_TORCH_CHECK(static_cast<int64_t>(spacing.size()) == 3 * given.size(0), "lossfold: malformed spacing");
    volume.wide_codes = classes > 0, volume.wanted = 1, volume.nowhere = classes ? nowhere : -1;
    volume.outside = is_signed, volume.inner = inner, volume.outer = outer, volume.squared = squared;
    volume.wide = squared || volume.rows > most_exact;
    for (int64_t k = 0; k < known_halves; ++k) halves.push_back(k ? 0.5 / static_cast<double>(k) : 0);
    volume.halves = halves.data(), volume.known = known_halves;
    if (classes) {
      codes.resize(given.numel()), present.resize(given.size(0) * classes);
      switch (type_of(given, "the labels")) {
        case Type::i64: encode<int64_t>(given, classes, ignore_index, codes.data(), present.data()); break;
        case Type::i32: encode<int32_t>(given, classes, ignore_index, codes.data(), present.data()); break;
        case Type::u8: encode<uint8_t>(given, classes, ignore_index, codes.data(), present.data()); break;
        default: STD_TORCH_CHECK(false, "lossfold: labels must be integers");
      }
    } else {
      STD_TORCH_CHECK(given.scalar_type() == ScalarType::Bool, "lossfold: masks must be bool");
    }
    std::vector<int64_t> sizes{given.size(0)};
    if (classes) sizes.push_back(classes);
    for (int64_t d = 1; d < 4; ++d) sizes.push_back(given.size(d));
    result = torch::stable::new_empty(given, sizes, volume.wide ? ScalarType::Double : ScalarType::Float);
    advise_huge_pages(result);
  }

  int64_t size() const { return volume.wide ? 8 : 4; }
  DistanceVolume at(int64_t i) const {
    DistanceVolume one = volume;
    const int64_t image = i / channels;
    if (volume.wide_codes) one.codes = codes.data() + image * pixels, one.wanted = static_cast<int>(i % channels);
    else one.codes = static_cast<const char*>(given.const_data_ptr()) + image * pixels;
    for (int64_t d = 0; d < 3; ++d) one.step[d] = spacing[3 * image + d];
    const int64_t sides[] = {one.slices, one.rows, one.columns};
    double farthest = 0;
    one.even = !one.wide;
    for (int64_t d = 0; d < 3; ++d) {
      farthest += static_cast<double>(sides[d]) * static_cast<double>(sides[d]);
      one.even &= sides[d] == 1 || one.step[d] == one.step[2];
    }
    one.even &= farthest < most_exact;
    return one;
  }
  // Whether an image lacks the class, whose signed distances are 0 then.
  bool lacks(int64_t i) const { return volume.outside && !present.empty() && !present[i]; }

  // Many volumes: each is one thread's, which keeps it in its caches. Few: all threads take pieces of each of its steps.
  void run() const {
    if (pixels == 0 || volumes == 0) return;
    const int64_t strips = (volume.columns + strip - 1) / strip, tiles = (volume.columns + most_lines - 1) / most_lines;
    const int64_t batch = std::max<int64_t>(1, (1 << 14) / volume.columns), batches = (volume.rows + batch - 1) / batch;
    const DistanceKernels& kernels = distance_kernels();
    const int64_t memory = kernels.workspace(volume), other = volume.outside ? pixels * size() : 0;
    const auto steps = [&](int64_t i, char* others, const auto& shared) {
      const DistanceVolume one = at(i);
      char* const cells = static_cast<char*>(result.mutable_data_ptr()) + i * pixels * size();
      if (lacks(i)) return static_cast<void>(std::memset(cells, 0, pixels * size()));
      shared(volume.slices * strips, [&](int64_t piece, char*) {
        const int64_t column = piece % strips * strip;
        kernels.columns(one, piece / strips, column, std::min(strip, volume.columns - column), cells, others);
      });
      shared(volume.slices * batches, [&](int64_t piece, char* work) {
        const int64_t row = piece % batches * batch;
        kernels.rows(one, piece / batches, row, std::min(batch, volume.rows - row), work, cells, others);
      });
      shared(volume.slices > 1 ? volume.rows * tiles : 0, [&](int64_t piece, char* work) {
        const int64_t column = piece % tiles * most_lines;
        kernels.lines(one, piece / tiles, column, std::min<int64_t>(most_lines, volume.columns - column), work, cells, others);
      });
    };
    const int64_t workers = workers_for(volumes * volume.slices * batches, 4 * volumes * pixels);
    if (workers == 1 || volumes >= 2 * workers) {
      in_parallel(volumes, workers, memory + other + 64, [&](int64_t i, char* work, int64_t) {
        steps(i, work + (memory + 63) / 64 * 64, [&](int64_t pieces, const auto& piece) {
          for (int64_t k = 0; k < pieces; ++k) piece(k, work);
        });
      });
      return;
    }
    std::unique_ptr<char[]> others(new char[other + 64]);
    advise_huge_pages(others.get(), other);
    for (int64_t i = 0; i < volumes; ++i)
      steps(i, others.get(), [&](int64_t pieces, const auto& piece) {
        in_parallel(pieces, workers, memory, [&](int64_t k, char* work, int64_t) { piece(k, work); });
      });
  }
};

Tensor distance(Tensor given, int64_t classes, int64_t ignore_index, std::vector<double> spacing, bool is_signed, double inner, double outer, bool squared) {
  const Distances distances(given, classes, ignore_index, spacing, is_signed, inner, outer, squared);
  distances.run();
  return distances.result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r6, CPU, m) { m.impl("distance", TORCH_BOX(&distance)); }

}  // namespace lossfold

// The exact bound of the hard pixels without sorting: the k-th largest hardness, found digit by digit from histograms.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "label_problem.h"

namespace lossfold {
namespace {

struct HardOptions {
  double thresh;
  int64_t min_kept;
  double ratio;  // 0: min_kept
  bool per_image;
};

// `from` is what the fold wrote for each pixel (see LabelResult), read as integers: without the sign bit these order like the
// numbers, NaN above all, and what is above infinity with the sign bit does not count. A pixel is hard if its sign bit is set or it reaches the bound.
template <class Int, class T>
Int hard_bound(const Int* from, int64_t pixels, const HardOptions& options) {
  constexpr int digit = 11;
  constexpr int64_t block = 1 << 16;
  constexpr Int without_sign = std::numeric_limits<Int>::max();
  const T infinite = std::numeric_limits<T>::infinity();
  Int infinity, prefix = 0;
  std::memcpy(&infinity, &infinite, sizeof infinity);
  int64_t k = -1;
  for (int known = 8 * sizeof(Int) - 1; known > 0;) {  // the bits from `known` upwards are found
    const int shift = std::max(known - digit, 0);
    const int64_t digits = int64_t{1} << (known - shift), blocks = (pixels + block - 1) / block;
    std::vector<int64_t> parts(blocks * (digits + 1), 0);  // of each block: the pixels with each digit, and those below thresh
    in_parallel(blocks, workers_for(blocks, pixels), 0, [&](int64_t j, char*, int64_t) {
      int64_t* part = parts.data() + j * (digits + 1);
      for (int64_t i = j * block; i < std::min(pixels, (j + 1) * block); ++i) {
        const Int size = from[i] & without_sign;
        if ((from[i] < 0 && size > infinity) || (k >= 0 && (size >> known) != (prefix >> known))) continue;
        ++part[(size >> shift) & (digits - 1)];
        part[digits] += from[i] < 0;
      }
    });
    std::vector<int64_t> counts(digits + 1, 0);
    for (size_t i = 0; i < parts.size(); ++i) counts[i % (digits + 1)] += parts[i];
    if (k < 0) {
      int64_t all = 0;
      for (int64_t d = 0; d < digits; ++d) all += counts[d];
      k = options.ratio > 0 ? static_cast<int64_t>(std::ceil(static_cast<double>(all) * options.ratio)) : std::min(options.min_kept, all);
      if (k <= counts[digits]) return infinity;  // enough are below thresh
    }
    int64_t d = digits - 1;
    for (; d > 0 && counts[d] < k; --d) k -= counts[d];
    prefix |= static_cast<Int>(d) << shift;
    known = shift;
  }
  return prefix;
}

}  // namespace
}  // namespace lossfold

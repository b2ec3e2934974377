// Histograms while threads fill them, and as the tensors that operators take and return.
#pragma once

#include <limits>
#include <mutex>

#include "problem.h"

namespace lossfold {
namespace {

// A histogram under construction on one thread; it is added to the whole when the thread is done, or a word might overflow.
class BinsOfThread {
 public:
  BinsOfThread(const Problem& problem, bool packed, bool per_image, std::vector<long long>* totals, std::mutex* lock)
      : problem_(problem), per_image_(per_image), totals_(totals), lock_(lock), row_(problem.image.bins + BinWords::spare) {
    words_.assign(problem.image.bins ? problem.image.classes * 2 * row_ * (packed ? 1 : 2) : 0, 0);
    bins = {words_.data(), packed};
  }
  ~BinsOfThread() { hand_over(); }

  void expect(int64_t image, int64_t pixels) {
    if (((per_image_ || problem_.split()) && image != owner_) || pixels_ + pixels >= int64_t{1} << 20) hand_over();
    owner_ = image;
    pixels_ += pixels;
  }

  BinWords bins;

 private:
  // totals: [samples or 1, 4, channels, bins + 1], weights times 2^24 and positions times 2^24; the last slot counts NaN.
  void hand_over() {
    if (pixels_ == 0 || words_.empty()) return;
    const std::lock_guard<std::mutex> guard(*lock_);
    const int64_t classes = problem_.image.classes, count = problem_.image.bins;
    const int64_t plane = classes * 2 * row_, wide = problem_.channels * (count + 1);
    long long* total = totals_->data() + (per_image_ ? problem_.sample(owner_) : 0) * 4 * wide;
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t side = 0; side < 2; ++side) {
        const unsigned long long* words = words_.data() + (2 * c + side) * row_;
        long long *weight = total + 2 * side * wide + (problem_.channel(owner_) + c) * (count + 1), *place = weight + wide;
        for (int64_t j = 0; j < count + BinWords::not_a_number + 1; ++j) {
          const unsigned long long word = words[j];
          if (word == 0 && (bins.packed || words[plane + j] == 0)) continue;
          const int64_t bin = j < count ? j : j < count + BinWords::not_a_number ? 0 : count;
          weight[bin] += bins.packed ? static_cast<long long>(word >> BinWords::count_shift) << 24 : static_cast<long long>(word);
          place[bin] += static_cast<long long>(bins.packed ? word & ((1ull << BinWords::count_shift) - 1) : words[plane + j]);
          if (bin == count) weight[0] += weight[bin], weight[bin] = 0, place[bin] = 1;  // it counts, and shows in the places
        }
      }
    std::fill(words_.begin(), words_.end(), 0);
    pixels_ = 0;
  }

  const Problem& problem_;
  const bool per_image_;
  std::vector<long long>* totals_;
  std::mutex* lock_;
  const int64_t row_;
  std::vector<unsigned long long> words_;
  int64_t owner_ = 0, pixels_ = 0;
};

// The histogram as numbers: weights, and positions weighted; a class that has met NaN has it in its first bin.
Tensor table_of(const std::vector<long long>& totals, const Tensor& like, int64_t rows, int64_t classes, int64_t bins) {
  Tensor table = torch::stable::new_empty(like, {rows, 4, classes, bins}, ScalarType::Double);
  double* out = static_cast<double*>(table.mutable_data_ptr());
  for (int64_t r = 0; r < rows * 4 * classes; ++r) {
    const long long* row = totals.data() + r * (bins + 1);
    for (int64_t j = 0; j < bins; ++j) out[r * bins + j] = static_cast<double>(row[j]) * 0x1p-24;
    if (row[bins] != 0) out[r * bins] = std::numeric_limits<double>::quiet_NaN();
  }
  return table;
}

// From the derivatives with respect to the table's positions to the slopes of the errors, for each image or for all:
// [rows, classes, foreground | background, bins]. steepness: by how much a position moves with its error, in each bin.
template <class T>
std::vector<char> slopes_as(const Tensor& grad, const std::vector<double>& steepness) {
  const int64_t rows = grad.size(0), classes = grad.size(2), bins = grad.size(3);
  const double* from = static_cast<const double*>(grad.const_data_ptr());
  std::vector<char> memory(rows * classes * 2 * bins * sizeof(T));
  T* to = reinterpret_cast<T*>(memory.data());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < classes; ++c)
      for (int64_t side = 0; side < 2; ++side)
        for (int64_t j = 0; j < bins; ++j) *to++ = static_cast<T>(from[((r * 4 + 2 * side + 1) * classes + c) * bins + j] * steepness[j]);
  return memory;
}

struct Slopes {
  std::vector<char> memory;
  int64_t of_image = 0, of_class = 0;  // bytes from one to the next

  Slopes(const std::optional<Tensor>& grad, const Problem& problem, const std::vector<double>& steepness) {
    if (!grad) return;
    const Tensor table = torch::stable::contiguous(*grad);
    STD_TORCH_CHECK(table.scalar_type() == ScalarType::Double && table.dim() == 4 && table.size(2) == problem.channels &&
                        table.size(3) == static_cast<int64_t>(steepness.size()),
                    "lossfold: malformed gradient of the histogram");
    const bool wide = problem.image.score_type == Type::f64;
    memory = wide ? slopes_as<double>(table, steepness) : slopes_as<float>(table, steepness);
    of_class = 2 * table.size(3) * (wide ? 8 : 4);
    if (table.size(0) > 1) of_image = of_class * table.size(2);
  }
  const void* at(const Problem& problem, int64_t i) const {
    return memory.empty() ? nullptr : memory.data() + problem.sample(i) * of_image + problem.channel(i) * of_class;
  }
};

}  // namespace
}  // namespace lossfold

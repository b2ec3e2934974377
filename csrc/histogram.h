// Histograms while threads fill them, and as the tensors that operators take and return.
#pragma once

#include <cstdlib>
#include <deque>
#include <limits>

#include "problem.h"

namespace lossfold {
namespace {

// What threads count: each into tables of its own, which are added when all have been counted. Integers, so that neither who
// counted what nor the order matters.
class Histograms {
 public:
  Histograms(const Problem& problem, bool packed, bool per_image)
      : problem_(problem), packed_(packed), per_image_(per_image), bins_(problem.image.bins), row_(bins_ + BinWords::spare),
        of_worker_(bins_ ? problem.workers() : 0) {}

  // Where a worker counts so many pixels of an image.
  BinWords of(int64_t worker, int64_t image, int64_t pixels) {
    if (!bins_) return {nullptr, packed_};
    std::deque<Table>& mine = of_worker_[worker];
    const int64_t owner = per_image_ || problem_.split() ? image : 0;
    if (mine.empty() || mine.back().owner != owner || mine.back().pixels + pixels >= int64_t{1} << 20) mine.emplace_back(owner, size());
    mine.back().pixels += pixels;
    return {mine.back().words.get(), packed_};
  }

  // The histogram as numbers: weights, and positions weighted; a class that has met NaN has it in its first bin.
  Tensor table(const Tensor& like) const {
    const int64_t rows = per_image_ ? problem_.batch : 1, channels = problem_.channels;
    if (!bins_) return torch::stable::new_empty(like, {0}, ScalarType::Double);
    Tensor result = torch::stable::new_empty(like, {rows, 4, channels, bins_}, ScalarType::Double);
    advise_huge_pages(result);
    double* const out = static_cast<double*>(result.mutable_data_ptr());
    std::vector<std::vector<const unsigned long long*>> found(rows * channels);  // a class's two rows in the tables that have it
    for (const auto& tables : of_worker_)
      for (const Table& one : tables) {
        const int64_t row = per_image_ ? problem_.sample(one.owner) : 0, first = problem_.channel(one.owner);
        for (int64_t c = 0; c < problem_.image.classes; ++c) found[row * channels + first + c].push_back(one.words.get() + 2 * c * row_);
      }
    in_parallel(rows * channels * 2, workers_for(rows * channels, rows * channels * 4 * bins_), 0, [&](int64_t piece, char*, int64_t) {
      const int64_t row = piece / 2 / channels, c = piece / 2 % channels, side = piece % 2;
      double* const weight = out + ((row * 4 + 2 * side) * channels + c) * bins_;
      add(found[piece / 2], side * row_, weight, weight + channels * bins_);
    });
    return result;
  }

 private:
  struct Freed {
    void operator()(unsigned long long* words) const { std::free(words); }
  };
  struct Table {
    int64_t owner, pixels = 0;
    std::unique_ptr<unsigned long long[], Freed> words;
    Table(int64_t owner_, int64_t size) : owner(owner_), words(static_cast<unsigned long long*>(std::calloc(size, sizeof(long long)))) {
      STD_TORCH_CHECK(words != nullptr, "lossfold: no memory for a histogram");
      advise_huge_pages(words.get(), size * sizeof(long long));
    }
  };
  int64_t plane() const { return problem_.image.classes * 2 * row_; }
  int64_t size() const { return plane() * (packed_ ? 1 : 2); }

  // Add the words of one side of a class: weights and positions, both times 2^24.
  void add(const std::vector<const unsigned long long*>& tables, int64_t start, double* weight, double* place) const {
    const auto sum_at = [&](int64_t j, long long* weights, long long* places) {
      for (const unsigned long long* table : tables) {
        const unsigned long long word = table[start + j];
        *weights += packed_ ? static_cast<long long>(word >> BinWords::count_shift) << 24 : static_cast<long long>(word);
        *places += static_cast<long long>(packed_ ? word & ((1ull << BinWords::count_shift) - 1) : table[start + j + plane()]);
      }
    };
    const auto put = [&](int64_t j, long long weights, long long places) {
      weight[j] = static_cast<double>(weights) * 0x1p-24;
      place[j] = static_cast<double>(places) * 0x1p-24;
    };
    for (int64_t j = 1; j < bins_; ++j) {
      long long weights = 0, places = 0;
      sum_at(j, &weights, &places);
      put(j, weights, places);
    }
    long long weights = 0, places = 0, unknown = 0, none = 0;  // bin 0 is spread over several slots, and NaN counts there
    sum_at(0, &weights, &places);
    for (int64_t j = bins_; j < bins_ + BinWords::not_a_number; ++j) sum_at(j, &weights, &places);
    sum_at(bins_ + BinWords::not_a_number, &unknown, &none);
    put(0, weights + unknown, places);
    if (unknown != 0 || none != 0) place[0] = std::numeric_limits<double>::quiet_NaN();
  }

  const Problem& problem_;
  const bool packed_, per_image_;
  const int64_t bins_, row_;
  std::vector<std::deque<Table>> of_worker_;
};

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

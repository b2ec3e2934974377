// The fold: sums over the pixels of a chunk. The map: the same integrand, pixel by pixel.
#pragma once

#include "label_bins.h"
#include "grid.h"

namespace lossfold {
namespace {

// Sum of w (m - z_c) of each class; with the pixels' w log s it makes the sum of -w log p_c.
template <class T>
struct Distances {
  using V = typename Lanes<T>::V;
  const Block<T>& block;
  double* sums;
  V sum;
  LOSSFOLD_INLINE void begin(long) { sum = V{}; }
  LOSSFOLD_INLINE void element(long, long i, V x, V) { sum -= block.at(block.weight, i) * x; }
  LOSSFOLD_INLINE void end(long c) { sums[c] += sum_lanes<T>(sum); }
};

// Sums at the label: a pixel adds its values to its label's row of a table that lives as long as the chunk. Four tables in
// turn, because a run of one label would wait on one sum; up to four values at a time, so that they share the wait.
template <class T>
struct LabelTable {
  static constexpr int turns = 4;
  const Image& image;
  int rows[max_sums];
  int count = 0;
  double* table;

  LabelTable(const Image& image_, Arena& arena) : image(image_) {
    for (int k = 0; k < image.sums; ++k)
      if (at_label(image.kinds[k]) && !is_hard(image.kinds[k])) rows[count++] = k;
    table = arena.take<double>(turns * image.classes * count);
    for (long i = 0; i < turns * image.classes * count; ++i) table[i] = 0;
  }
  static long bytes(const Image& image) { return turns * image.classes * image.sums * (long)sizeof(double) + alignment; }

  template <int K>
  LOSSFOLD_INLINE void add(const int* label, const T* const* values, long n, double* part) {
    const long one = image.classes * K;
    for (long i = 0; i < n; i += turns)
      for (int j = 0; j < turns; ++j) {
        double* const to = part + j * one + label[i + j] * K;
        for (int k = 0; k < K; ++k) to[k] += values[k][i + j];
      }
  }

  // Of images side by side each has sums of its own.
  LOSSFOLD_INLINE void add_abreast(const Block<T>& block, const T* const* values, double* sums) const {
    sums += block.first_image * image.sums_stride;
    for (int k = 0; k < count; ++k)
      for (long p = 0; p < image.pixels; ++p)
        for (long j = 0, i = p * block.columns; j < block.images; ++j, ++i)
          sums[j * image.sums_stride + rows[k] * image.classes + block.label[i]] += values[k][i];
  }

  // With very few classes: every one of them, along pixels.
  LOSSFOLD_INLINE void add_asking(const Block<T>& block, const T* const* values, double* sums) const {
    typedef typename Lanes<T>::Int Int;
    for (int k = 0; k < count; ++k) {
      WideSums of[very_few];
      for (long i = 0; i < block.live; i += block.width)
        for (long c = 0; c < very_few; ++c) of[c].add(block.labels(i) == (Int)c, *(const F*)(values[k] + i));
      for (long c = 0; c < image.classes; ++c) sums[rows[k] * image.classes + c] += of[c].total();
    }
  }

  void add(const Block<T>& block, const T* const* values, double* sums) {
    if (image.abreast) return add_abreast(block, values, sums);
    if constexpr (sizeof(T) == 4)
      if (WideSums::fast && image.classes <= very_few) return add_asking(block, values, sums);
    const int* label = block.label;
    const long n = block.live;
    for (int done = 0; done < count; done += 4) {
      double* part = table + turns * image.classes * done;
      if (count - done == 1) add<1>(label, values + done, n, part);
      else if (count - done == 2) add<2>(label, values + done, n, part);
      else if (count - done == 3) add<3>(label, values + done, n, part);
      else add<4>(label, values + done, n, part);
    }
  }

  void flush(double* sums) const {
    for (int done = 0; done < count; done += 4) {
      const int group = count - done < 4 ? count - done : 4;
      const double* part = table + turns * image.classes * done;
      for (long c = 0; c < image.classes; ++c)
        for (int k = 0; k < group; ++k) {
          double sum = 0;
          for (int j = 0; j < turns; ++j) sum += part[(j * image.classes + c) * group + k];
          sums[rows[done + k] * image.classes + c] += sum;
        }
    }
  }
};

// Everything up to p_y, -log p_y and 1 - p_y of each pixel; adds the sums of -log p_c over all pixels if asked for.
template <class T>
LOSSFOLD_INLINE void evaluate(Block<T>& block, double* nll_all) {
  using V = typename Lanes<T>::V;
  const long n = block.n, width = Lanes<T>::width;
  if (!block.image.softmax) {
    block.gather_label(block.rows, block.label_score);
    block.finish_identity();
    if (nll_all)
      for (long c = 0; c < block.image.classes; ++c) {
        double* const cell[] = {nll_all + c};
        block.add_up(cell, [&](long i, V* sum) { *sum += block.at(block.weight, i) * block.neg_log(block.at(block.rows, c * n + i)); });
      }
    return;
  }
  if (!block.exponential) {
    block.find_max();
    block.label_minus_max();
  }
  if (nll_all && block.image.abreast) {
    for (long c = 0; c < block.image.classes; ++c) {
      double* const cell[] = {nll_all + c};
      block.add_up(cell, [&](long i, V* sum) { *sum += block.at(block.weight, i) * (block.at(block.high, i) - block.at(block.rows, c * n + i)); });
    }
    block.exponentials(Nothing<T>{});
    for (long i = 0; i < block.live; i += width) block.at(block.nll, i) = block.at(block.weight, i) * log_(block.at(block.inverse, i));
    for (long c = 0; c < block.image.classes; ++c) {
      double* const cell[] = {nll_all + c};
      block.add_up(cell, [&](long i, V* sum) { *sum += block.at(block.nll, i); });
    }
  } else if (nll_all) {
    block.exponentials(Distances<T>{block, nll_all, V{}});
    V log_sums = V{};
    for (long i = 0; i < block.live; i += width) log_sums += block.at(block.weight, i) * log_(block.at(block.inverse, i));
    const double total = sum_lanes<T>(log_sums);
    for (long c = 0; c < block.image.classes; ++c) nll_all[c] += total;
  } else if (!block.exponential) {
    if (block.image.maps) block.exponentials(AheadOfMap<T>{block, size_of(block.image.map_type), nullptr});
    else block.exponentials(Nothing<T>{});
  }
  const bool hard = block.has_hard();
  block.finish_softmax({block.has(Sum::prob_at_label) || hard, block.has(Sum::nll) || hard || block.has_focal(), block.has_focal()});
}

// Where the sums over all classes and pixels go, [classes] each; null where nobody asks.
struct Wide {
  double *prob, *prob_sq, *map_prob, *map_size;
  explicit Wide(const Image& image, double* sums)
      : prob(row_of(image, Sum::prob, sums)), prob_sq(row_of(image, Sum::prob_sq, sums)),
        map_prob(row_of(image, Sum::map_prob, sums)), map_size(row_of(image, Sum::map_size, sums)) {}
};

template <class T, class EachRow>
LOSSFOLD_INLINE void sum_probabilities(Block<T>& block, const Wide& to, EachRow each_row) {
  using V = typename Lanes<T>::V;
  const long n = block.n, width = Lanes<T>::width;
  T *scale = block.first, *inverse = block.inverse;
  const bool with_map = to.map_prob || to.map_size, in_place = with_map && block.map_in_place(block.weight);
  for (long i = 0; i < block.live; i += width) block.at(scale, i) = block.at(block.weight, i) * block.at(inverse, i);
  for (long c = 0; c < block.image.classes; ++c) {
    T* row = block.rows + c * n;
    const MapRow<T> m = with_map ? block.map_of(c, block.weight, in_place, each_row) : MapRow<T>{};
    double* const cells[] = {to.prob ? to.prob + c : nullptr, to.prob_sq ? to.prob_sq + c : nullptr, to.map_prob ? to.map_prob + c : nullptr};
    if (to.prob_sq) {
      block.add_up(cells, [&](long i, V* sums) {
        const V e = block.at(row, i), wp = e * block.at(scale, i);
        sums[0] += wp;
        sums[1] += wp * e * block.at(inverse, i);
        if (m) sums[2] += wp * m.at(i);
      });
    } else if (to.map_prob) {
      double* const both[] = {cells[0], cells[2]};
      block.add_up(both, [&](long i, V* sums) {
        const V wp = block.at(row, i) * block.at(scale, i);
        sums[0] += wp;
        sums[1] += wp * m.at(i);
      });
    } else if (to.prob) {
      double* const cell[] = {cells[0]};
      block.add_up(cell, [&](long i, V* sum) { *sum += block.at(row, i) * block.at(scale, i); });
    }
    if (!to.map_size) continue;
    double* const cell[] = {to.map_size + c};
    block.add_up(cell, [&](long i, V* sum) {
      const V x = m.at(i);
      *sum += block.at(block.weight, i) * (x < 0 ? -x : x);
    });
  }
}

// The pixels' own share of row k of the sums at the label, times w.
template <class T>
LOSSFOLD_INLINE T* label_values(Block<T>& block, int k) {
  T* row = block.powers + k * block.n;
  const Sum kind = block.image.kinds[k];
  if (kind == Sum::weight) return block.weight;
  for (long i = 0; i < block.live; i += Lanes<T>::width) {
    const auto w = block.at(block.weight, i), nll = block.at(block.nll, i);
    if (kind == Sum::prob_at_label) block.at(row, i) = w * block.at(block.p, i);
    else if (kind == Sum::hard_weight) block.at(row, i) = w * block.at(block.kept, i);
    else if (kind == Sum::hard_nll) block.at(row, i) = w * ((block.at(block.kept, i) == 0) | (nll < 0) ? decltype(nll){} : nll);  // as write_hardness
    else if (kind == Sum::nll) block.at(row, i) = w * nll;
    else if (kind == Sum::focal) block.at(row, i) *= w * nll;
    else block.at(row, i) *= w;
  }
  return row;
}

// -log p_y of each pixel, with what the selection of hard pixels has to know in its sign and in NaN.
template <class T>
LOSSFOLD_INLINE void write_hardness(const Block<T>& block, T thresh, T* out, long at, long count) {
  const long step = block.pixel_step();
  for (long i = at; i < at + count; ++i) {
    const T hardness = block.nll[i] > 0 ? block.nll[i] : block.nll[i] <= 0 ? 0 : (T)__builtin_nan("");
    out[(i - at) * step] = block.weight[i] == 0 ? -(T)__builtin_nan("") : block.p[i] < thresh ? -hardness : hardness;
  }
}

template <class T>
void fold(const Image& image, long begin, long end, void* work, const LabelResult& result, BadLabel* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  LabelTable<T> table(image, arena);
  Binning<T> binning(block, arena);
  double* nll_all = row_of(image, Sum::nll_all, result.sums);
  const Wide wide(image, result.sums);
  const T* values[max_sums];
  each_block(block, arena, begin, end, bad, [&](auto each_row) {
    evaluate(block, nll_all);
    if (wide.prob || wide.prob_sq || wide.map_prob || wide.map_size) sum_probabilities(block, wide, each_row);
    if (image.bins) binning.add(result.bins);
    if (result.hardness)
      each_row([&](long start, long at, long count) { write_hardness(block, (T)result.thresh, (T*)result.hardness + start, at, count); });
    block.raise_powers(0);
    for (int j = 0; j < table.count; ++j) values[j] = label_values(block, table.rows[j]);
    table.add(block, values, result.sums);
  });
  table.flush(result.sums);
}

template <class T>
void keep(const Image& image, long begin, long end, void* work, const void* hardness, long long bound, unsigned char* kept,
          double* sums) {
  typedef typename Lanes<T>::Int Int;
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  double *weight = row_of(image, Sum::hard_weight, sums), *nll = row_of(image, Sum::hard_nll, sums);
  const Int without_sign = sizeof(T) == 8 ? (Int)0x7fffffffffffffff : (Int)0x7fffffff;
  const Int infinity = sizeof(T) == 8 ? (Int)0x7ff0000000000000 : (Int)0x7f800000;
  BadLabel bad;
  for (long start = begin; start < end; start += block.n) {
    const long count = end - start < block.n ? end - start : block.n;
    block.columns = count;
    block.load_targets(start, count, 0, &bad);
    for (long i = 0; i < count; ++i) {
      const Int bits = ((const Int*)hardness)[start + i], size = bits & without_sign;
      const bool hard = bits < 0 ? size <= infinity : size >= (Int)bound;
      kept[start + i] = hard;
      if (!hard) continue;
      if (weight) weight[block.label[i]] += block.weight[i];
      if (nll) nll[block.label[i]] += block.weight[i] * (double)__builtin_bit_cast(T, size);
    }
  }
}

// ---- map: the integrand itself, sum_k coef[k, class] * share ----

template <class T>
void map(const Image& image, long begin, long end, void* work, const double* coef, void* out, BadLabel* bad) {
  using V = typename Lanes<T>::V;
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  const long n = block.n, classes = image.classes, width = Lanes<T>::width;
  const double *prob = row_of(image, Sum::prob, coef), *prob_sq = row_of(image, Sum::prob_sq, coef);
  const double *nll_all = row_of(image, Sum::nll_all, coef), *map_prob = row_of(image, Sum::map_prob, coef);
  const double* map_size = row_of(image, Sum::map_size, coef);
  double* no_sums = nullptr;
  T* value = block.second;
  each_block(block, arena, begin, end, bad, [&](auto each_row) {
    for (long i = 0; i < block.live; ++i) value[i] = 0;
    if (nll_all && image.softmax) {  // sum_c a_c (log s + m - z_c), before the rows become e_c
      block.find_max();
      double total = 0;
      for (long c = 0; c < classes; ++c) {
        const T a = (T)nll_all[c];
        total += nll_all[c];
        if (a != 0)
          for (long i = 0; i < block.live; i += width) block.at(value, i) += a * (block.at(block.high, i) - block.at(block.rows, c * n + i));
      }
      evaluate(block, no_sums);
      for (long i = 0; i < block.live; i += width) block.at(value, i) -= (T)total * log_(block.at(block.inverse, i));
    } else {
      evaluate(block, no_sums);
    }
    for (long c = 0; c < classes; ++c) {
      const MapRow<T> m = map_prob || map_size ? block.map_of(c, block.weight, false, each_row) : MapRow<T>{};
      for (long i = 0; i < block.live; i += width) {
        const V q = image.softmax ? block.at(block.rows, c * n + i) * block.at(block.inverse, i) : block.at(block.rows, c * n + i);
        if (prob) block.at(value, i) += (T)prob[c] * q;
        if (prob_sq) block.at(value, i) += (T)prob_sq[c] * q * q;
        if (nll_all && !image.softmax) block.at(value, i) += (T)nll_all[c] * block.neg_log(q);
        if (map_prob) block.at(value, i) += (T)map_prob[c] * q * m.at(i);
        if (map_size) block.at(value, i) += (T)map_size[c] * (m.at(i) < 0 ? -m.at(i) : m.at(i));
      }
    }
    for (long i = 0; i < block.live; i += width) block.at(value, i) *= block.at(block.weight, i);
    block.raise_powers(0);
    for (int k = 0; k < image.sums; ++k) {
      if (!at_label(image.kinds[k])) continue;
      const T* share = label_values(block, k);
      for (long i = 0; i < block.live; ++i) {
        const T a = (T)coef[k * classes + block.label[i]];
        value[i] += a == 0 ? 0 : a * share[i];
      }
    }
    each_row([&](long start, long at, long count) { store(sizeof(T) == 8 ? Type::f64 : Type::f32, out, start, block.pixel_step(), count, value + at); });
  });
}

}  // namespace
}  // namespace lossfold

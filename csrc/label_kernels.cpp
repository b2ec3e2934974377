// The label fold's kernels. Compiled once per SIMD level; LOSSFOLD_LEVEL names the table.

#include "label_block.h"

namespace lossfold {
namespace {

template <class T>
struct Nothing {
  LOSSFOLD_INLINE void begin(long) {}
  LOSSFOLD_INLINE void element(long, long, typename Lanes<T>::V, typename Lanes<T>::V) {}
  LOSSFOLD_INLINE void end(long) {}
};

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

// ---- fold ----

// Sums at the label: a pixel adds its values to its label's row of a table that lives as long as the chunk. Two tables in
// turn, because a run of one label would wait on one sum; up to four values at a time, so that they share the wait.
template <class T>
struct LabelTable {
  const LabelImage& image;
  int rows[max_sums];
  int count = 0;
  double* table;

  LabelTable(const LabelImage& image_, Arena& arena) : image(image_) {
    for (int k = 0; k < image.sums; ++k)
      if (at_label(image.kinds[k])) rows[count++] = k;
    table = arena.take<double>(2 * image.classes * count);
    for (long i = 0; i < 2 * image.classes * count; ++i) table[i] = 0;
  }
  static long bytes(const LabelImage& image) { return 2 * image.classes * image.sums * (long)sizeof(double) + alignment; }

  template <int K>
  LOSSFOLD_INLINE void add(const int* label, const T* const* values, long n, double* part) {
    double *even = part, *odd = part + image.classes * K;
    for (long i = 0; i < n; i += 2) {
      double *a = even + label[i] * K, *b = odd + label[i + 1] * K;
      for (int k = 0; k < K; ++k) a[k] += values[k][i], b[k] += values[k][i + 1];
    }
  }

  void add(const int* label, const T* const* values, long n) {
    for (int done = 0; done < count; done += 4) {
      double* part = table + 2 * image.classes * done;
      if (count - done == 1) add<1>(label, values + done, n, part);
      else if (count - done == 2) add<2>(label, values + done, n, part);
      else if (count - done == 3) add<3>(label, values + done, n, part);
      else add<4>(label, values + done, n, part);
    }
  }

  void flush(double* sums) const {
    for (int done = 0; done < count; done += 4) {
      const int group = count - done < 4 ? count - done : 4;
      const double* part = table + 2 * image.classes * done;
      for (long c = 0; c < image.classes; ++c)
        for (int k = 0; k < group; ++k)
          sums[rows[done + k] * image.classes + c] += part[c * group + k] + part[(image.classes + c) * group + k];
    }
  }
};

// Everything up to p_y, -log p_y and 1 - p_y of each pixel; adds the sums of -log p_c over all pixels if asked for.
template <class T>
LOSSFOLD_INLINE void evaluate(Block<T>& block, double* nll_all) {
  using V = typename Lanes<T>::V;
  const long n = block.n, width = Lanes<T>::width;
  if (!block.image.softmax) {
    block.gather_label(block.label_score);
    block.finish_identity();
    if (nll_all)
      for (long c = 0; c < block.image.classes; ++c) {
        V sum = V{};
        for (long i = 0; i < n; i += width) sum += block.at(block.weight, i) * block.neg_log(block.at(block.rows, c * n + i));
        nll_all[c] += sum_lanes<T>(sum);
      }
    return;
  }
  block.find_max();
  block.label_minus_max();
  if (nll_all) {
    block.exponentials(Distances<T>{block, nll_all, V{}});
    V log_sums = V{};
    for (long i = 0; i < n; i += width) log_sums += block.at(block.weight, i) * log_(block.at(block.inverse, i));
    const double total = sum_lanes<T>(log_sums);
    for (long c = 0; c < block.image.classes; ++c) nll_all[c] += total;
  } else {
    block.exponentials(Nothing<T>{});
  }
  block.finish_softmax();
}

template <class T>
LOSSFOLD_INLINE void sum_probabilities(Block<T>& block, double* prob, double* prob_sq) {
  using V = typename Lanes<T>::V;
  const long n = block.n, width = Lanes<T>::width;
  T *scale = block.first, *inverse = block.inverse;
  for (long i = 0; i < n; i += width) block.at(scale, i) = block.at(block.weight, i) * block.at(inverse, i);
  for (long c = 0; c < block.image.classes; ++c) {
    T* row = block.rows + c * n;
    V sum = V{}, sum_sq = V{};
    if (prob_sq)
      for (long i = 0; i < n; i += width) {
        const V e = block.at(row, i), wp = e * block.at(scale, i);
        sum += wp;
        sum_sq += wp * e * block.at(inverse, i);
      }
    else
      for (long i = 0; i < n; i += width) sum += block.at(row, i) * block.at(scale, i);
    if (prob) prob[c] += sum_lanes<T>(sum);
    if (prob_sq) prob_sq[c] += sum_lanes<T>(sum_sq);
  }
}

// The pixels' own share of row k of the sums at the label, times w.
template <class T>
LOSSFOLD_INLINE T* label_values(Block<T>& block, int k) {
  T* row = block.powers + k * block.n;
  const Sum kind = block.image.kinds[k];
  if (kind == Sum::weight) return block.weight;
  for (long i = 0; i < block.n; i += Lanes<T>::width) {
    const auto w = block.at(block.weight, i), nll = block.at(block.nll, i);
    if (kind == Sum::prob_at_label) block.at(row, i) = w * block.at(block.p, i);
    else if (kind == Sum::nll) block.at(row, i) = w * nll;
    else if (kind == Sum::focal) block.at(row, i) *= w * nll;
    else block.at(row, i) *= w;
  }
  return row;
}

template <class T>
void fold(const LabelImage& image, long begin, long end, void* work, double* sums, long long* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  LabelTable<T> table(image, arena);
  double *prob = row_of(image, Sum::prob, sums), *prob_sq = row_of(image, Sum::prob_sq, sums);
  double* nll_all = row_of(image, Sum::nll_all, sums);
  const T* values[max_sums];
  for (long start = begin; start < end; start += block.n) {
    block.read(start, end - start < block.n ? end - start : block.n, bad);
    evaluate(block, nll_all);
    if (prob || prob_sq) sum_probabilities(block, prob, prob_sq);
    block.raise_powers(0);
    for (int j = 0; j < table.count; ++j) values[j] = label_values(block, table.rows[j]);
    table.add(block.label, values, block.n);
  }
  table.flush(sums);
}

// ---- map: the integrand itself, sum_k coef[k, class] * share ----

template <class T>
void map(const LabelImage& image, long begin, long end, void* work, const double* coef, void* out, long long* bad) {
  using V = typename Lanes<T>::V;
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  const long n = block.n, classes = image.classes, width = Lanes<T>::width;
  const double *prob = row_of(image, Sum::prob, coef), *prob_sq = row_of(image, Sum::prob_sq, coef);
  const double* nll_all = row_of(image, Sum::nll_all, coef);
  double* no_sums = nullptr;
  T* value = block.second;
  for (long start = begin; start < end; start += n) {
    const long count = end - start < n ? end - start : n;
    block.read(start, count, bad);
    for (long i = 0; i < n; ++i) value[i] = 0;
    if (nll_all && image.softmax) {  // sum_c a_c (log s + m - z_c), before the rows become e_c
      block.find_max();
      double total = 0;
      for (long c = 0; c < classes; ++c) {
        const T a = (T)nll_all[c];
        total += nll_all[c];
        if (a != 0)
          for (long i = 0; i < n; i += width) block.at(value, i) += a * (block.at(block.high, i) - block.at(block.rows, c * n + i));
      }
      evaluate(block, no_sums);
      for (long i = 0; i < n; i += width) block.at(value, i) -= (T)total * log_(block.at(block.inverse, i));
    } else {
      evaluate(block, no_sums);
    }
    for (long c = 0; c < classes; ++c)
      for (long i = 0; i < n; i += width) {
        const V q = image.softmax ? block.at(block.rows, c * n + i) * block.at(block.inverse, i) : block.at(block.rows, c * n + i);
        if (prob) block.at(value, i) += (T)prob[c] * q;
        if (prob_sq) block.at(value, i) += (T)prob_sq[c] * q * q;
        if (nll_all && !image.softmax) block.at(value, i) += (T)nll_all[c] * block.neg_log(q);
      }
    for (long i = 0; i < n; i += width) block.at(value, i) *= block.at(block.weight, i);
    block.raise_powers(0);
    for (int k = 0; k < image.sums; ++k) {
      if (!at_label(image.kinds[k])) continue;
      const T* share = label_values(block, k);
      for (long i = 0; i < n; ++i) value[i] += (T)coef[k * classes + block.label[i]] * share[i];
    }
    store(sizeof(T) == 8 ? Type::f64 : Type::f32, out, start, 1, count, value);
  }
}

// ---- unfold ----

// The derivatives of the loss with respect to this image's sums, as T; a row is null where the sum was not asked for.
template <class T>
struct Derivatives {
  T *rows, *prob, *prob_sq, *prob_at_label, *nll, *nll_all;
  T nll_all_total;
  bool focal = false;

  Derivatives(const LabelImage& image, Arena& arena, const double* grad) {
    rows = arena.take<T>(image.classes * image.sums);
    for (long i = 0; i < image.classes * image.sums; ++i) rows[i] = (T)grad[i];
    prob = row_of(image, Sum::prob, rows);
    prob_sq = row_of(image, Sum::prob_sq, rows);
    prob_at_label = row_of(image, Sum::prob_at_label, rows);
    nll = row_of(image, Sum::nll, rows);
    nll_all = row_of(image, Sum::nll_all, rows);
    for (int k = 0; k < image.sums; ++k) focal |= image.kinds[k] == Sum::focal || image.kinds[k] == Sum::focal_weight;
    if (prob_sq)
      for (long c = 0; c < image.classes; ++c) prob_sq[c] *= 2;
    double total = 0;
    if (nll_all)
      for (long c = 0; c < image.classes; ++c) total += nll_all[c];
    nll_all_total = (T)total;
  }
  static long bytes(const LabelImage& image) { return image.classes * image.sums * (long)sizeof(T) + alignment; }
};

// first = d loss / d(-log p_y), second = d loss / d u through the focal powers at fixed log, both without w.
template <class T>
LOSSFOLD_INLINE void label_derivatives(Block<T>& block, const Derivatives<T>& d) {
  const LabelImage& image = block.image;
  const long n = block.n, width = Lanes<T>::width;
  if (d.nll)
    for (long i = 0; i < n; ++i) block.first[i] = d.nll[block.label[i]];
  else
    for (long i = 0; i < n; ++i) block.first[i] = 0;
  for (long i = 0; i < n; ++i) block.second[i] = 0;
  if (!d.focal) return;
  block.raise_powers(1);
  for (int k = 0; k < image.sums; ++k) {
    const bool with_log = image.kinds[k] == Sum::focal;
    if (!with_log && image.kinds[k] != Sum::focal_weight) continue;
    const T gamma = (T)image.gammas[k];
    T* g = block.powers + k * n;  // u^(gamma - 1)
    for (long i = 0; i < n; ++i) {
      const T a = d.rows[k * image.classes + block.label[i]] * g[i];
      if (with_log) block.first[i] += a * block.u[i];
      block.second[i] += a * gamma * (with_log ? block.nll[i] : 1);
    }
  }
  for (long i = 0; i < n; i += width) {  // below tiny, u is held and has no derivative
    const auto u = block.at(block.u, i);
    block.at(block.second, i) = u > decltype(u){} + Block<T>::tiny ? block.at(block.second, i) : decltype(u){};
  }
}

template <class T>
LOSSFOLD_INLINE void unfold_softmax(Block<T>& block, const Derivatives<T>& d) {
  using V = typename Lanes<T>::V;
  const long n = block.n, classes = block.image.classes, width = Lanes<T>::width;
  T *scale = block.high, *shift = block.label_score;
  block.find_max();
  block.label_minus_max();
  block.exponentials(Nothing<T>{});
  block.finish_softmax();
  label_derivatives(block, d);
  T* total = block.powers;  // sum_c p_c D_c without the label's part
  for (long i = 0; i < n; i += width) block.at(total, i) = V{};
  if (d.prob || d.prob_sq)
    for (long c = 0; c < classes; ++c) {
      const T a = d.prob ? d.prob[c] : 0, b = d.prob_sq ? d.prob_sq[c] : 0;
      for (long i = 0; i < n; i += width) {
        const V q = block.at(block.rows, c * n + i) * block.at(block.inverse, i);
        block.at(total, i) += q * (a + q * b);
      }
    }
  T* fix = block.first;  // what the label's own class gets besides
  for (long i = 0; i < n; i += width) {
    const V w = block.at(block.weight, i), p = block.at(block.p, i);
    const V q = w * (block.at(block.first, i) + block.at(block.second, i) * p);
    V at = V{};
    if (d.prob_at_label)
      for (long j = 0; j < width; ++j) at[j] = d.prob_at_label[block.label[i + j]];
    const V inverse = block.at(block.inverse, i), own = w * p * at;
    block.at(scale, i) = w * inverse;
    block.at(shift, i) = inverse * (q + w * d.nll_all_total - w * block.at(total, i) - own);
    block.at(fix, i) = own - q;
  }
  for (long c = 0; c < classes; ++c) {
    T* row = block.rows + c * n;
    const T a = d.prob ? d.prob[c] : 0, b = d.prob_sq ? d.prob_sq[c] : 0, g = d.nll_all ? d.nll_all[c] : 0;
    for (long i = 0; i < n; i += width) {
      const V e = block.at(row, i);
      V slope = block.at(scale, i) * a + block.at(shift, i);
      if (d.prob_sq) slope += block.at(scale, i) * b * (e * block.at(block.inverse, i));
      V dz = e * slope;
      if (d.nll_all) dz -= block.at(block.weight, i) * g;
      block.at(row, i) = dz;
    }
  }
  for (long i = 0; i < n; ++i) block.rows[block.label[i] * n + i] += fix[i];
}

template <class T>
LOSSFOLD_INLINE void unfold_identity(Block<T>& block, const Derivatives<T>& d) {
  using V = typename Lanes<T>::V;
  const long n = block.n, classes = block.image.classes, width = Lanes<T>::width;
  block.gather_label(block.label_score);
  block.finish_identity();
  label_derivatives(block, d);
  T* fix = block.first;
  for (long i = 0; i < n; i += width) {
    const V p = block.at(block.p, i), slope = p < V{} + Block<T>::floor ? V{} : -1 / p;
    V at = V{};
    if (d.prob_at_label)
      for (long j = 0; j < width; ++j) at[j] = d.prob_at_label[block.label[i + j]];
    block.at(fix, i) = block.at(block.weight, i) * (at + block.at(block.first, i) * slope - block.at(block.second, i));
  }
  for (long c = 0; c < classes; ++c) {
    T* row = block.rows + c * n;
    const T a = d.prob ? d.prob[c] : 0, b = d.prob_sq ? d.prob_sq[c] : 0, g = d.nll_all ? d.nll_all[c] : 0;
    for (long i = 0; i < n; i += width) {
      const V p = block.at(row, i);
      V dp = a + p * b;
      if (d.nll_all) dp -= p < V{} + Block<T>::floor ? V{} : g / p;
      block.at(row, i) = block.at(block.weight, i) * dp;
    }
  }
  for (long i = 0; i < n; ++i) block.rows[block.label[i] * n + i] += fix[i];
}

template <class T>
void unfold(const LabelImage& image, long begin, long end, void* work, const double* grad, LabelGradient layout,
            void* grad_scores) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  const Derivatives<T> derivatives(image, arena, grad);
  long long bad = no_bad_label;  // the fold has refused labels out of range
  for (long start = begin; start < end; start += block.n) {
    const long count = end - start < block.n ? end - start : block.n;
    block.read(start, count, &bad);
    if (image.softmax) unfold_softmax(block, derivatives);
    else unfold_identity(block, derivatives);
    for (long c = 0; c < image.classes; ++c)
      store(image.score_type, grad_scores, c * layout.class_stride + start * layout.pixel_stride, layout.pixel_stride, count,
            block.rows + c * block.n);
  }
}

template <class T>
long workspace_of(const LabelImage& image) {
  return Block<T>::bytes(image) + LabelTable<T>::bytes(image) + Derivatives<T>::bytes(image) + 4 * alignment;
}

long workspace(const LabelImage& image) {
  return image.score_type == Type::f64 ? workspace_of<double>(image) : workspace_of<float>(image);
}
void fold_any(const LabelImage& image, long begin, long end, void* work, double* sums, long long* bad) {
  image.score_type == Type::f64 ? fold<double>(image, begin, end, work, sums, bad) : fold<float>(image, begin, end, work, sums, bad);
}
void unfold_any(const LabelImage& image, long begin, long end, void* work, const double* grad, LabelGradient layout,
                void* grad_scores) {
  image.score_type == Type::f64 ? unfold<double>(image, begin, end, work, grad, layout, grad_scores)
                                : unfold<float>(image, begin, end, work, grad, layout, grad_scores);
}
void map_any(const LabelImage& image, long begin, long end, void* work, const double* coef, void* out, long long* bad) {
  image.score_type == Type::f64 ? map<double>(image, begin, end, work, coef, out, bad)
                                : map<float>(image, begin, end, work, coef, out, bad);
}

}  // namespace

extern const LabelKernels LOSSFOLD_LEVEL = {workspace, fold_any, unfold_any, map_any};

}  // namespace lossfold

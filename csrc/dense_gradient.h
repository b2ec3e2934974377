// The dense unfold: from the derivatives with respect to the sums to the gradient of the scores.
//
// Per element, with A = d loss / d p, U = d loss / d u, N and M those by -log p and -log q:
//   sigmoid   dz = p q (A + (1 - 2t) U) - q N + p M
//   identity  dp = A + (1 - 2t) U - N / p + M / q
//   softmax   dz_k = p_k (A_k - sum_j p_j A_j + sum_j N_j) - N_k
#pragma once

#include "dense_bins.h"
#include "grid_gradient.h"

namespace lossfold {
namespace {

// The derivatives of the loss with respect to this image's sums, as T; a row is null where the sum was not asked for.
template <class T>
struct DenseDerivatives {
  struct Focal {  // those of one gamma
    double gamma;
    const T *focal, *focal_not, *focal_weight;
  };
  T* rows;
  const T* of[(int)DenseSum::count];
  const T* slopes;  // of the errors, by channel and bin; null without a histogram
  int gammas = 0;
  Focal focal[max_sums];

  DenseDerivatives(const DenseImage& image, Arena& arena, const double* grad, const void* slopes_) : slopes((const T*)slopes_) {
    rows = arena.take<T>(image.classes * image.dense_sums);
    const double largest = sizeof(T) == 8 ? 0x1.fffffffffffffp1023 : 0x1.fffffep127;
    for (long i = 0; i < image.classes * image.dense_sums; ++i) rows[i] = (T)(grad[i] > largest ? largest : grad[i] < -largest ? -largest : grad[i]);
    for (const T*& row : of) row = nullptr;
    for (int k = 0; k < image.dense_sums; ++k) {
      const DenseSum kind = image.dense_kinds[k];
      of[(int)kind] = rows + k * image.classes;
      if (kind < DenseSum::focal) continue;
      const T* row = rows + k * image.classes;
      Focal& one = focal_of(image.dense_gammas[k]);
      (kind == DenseSum::focal ? one.focal : kind == DenseSum::focal_not ? one.focal_not : one.focal_weight) = row;
    }
  }
  Focal& focal_of(double gamma) {
    for (int j = 0; j < gammas; ++j)
      if (focal[j].gamma == gamma) return focal[j];
    return focal[gammas++] = Focal{gamma, nullptr, nullptr, nullptr};
  }
  static long bytes(const DenseImage& image) { return image.classes * image.dense_sums * (long)sizeof(T) + alignment; }
  LOSSFOLD_INLINE T at(DenseSum kind, long c) const { return of[(int)kind] ? of[(int)kind][c] : 0; }
};

template <class T, bool valued>
struct UnfoldChannel {
  using V = typename Lanes<T>::V;
  const DenseBlock<T>& dense;
  const DenseBinning<T>& binning;
  const DenseDerivatives<T>& d;
  const long c;
  const T* t;  // targets
  const MapRow<T> m;  // if it has a slope
  T* out;  // the gradient of the channel's scores; with softmax A
  T* logs_out;  // with softmax N
  double* total;  // the value of a loss that is linear in the logarithms' sums

  template <Link link, class Wanted>
  LOSSFOLD_INLINE void run() const {
    const DenseImage& image = dense.image;
    const T prob = d.at(DenseSum::prob, c), prob_sq = 2 * d.at(DenseSum::prob_sq, c), both = d.at(DenseSum::both, c);
    const T apart = d.at(DenseSum::apart, c), map_prob = d.at(DenseSum::map_prob, c), nll = d.at(DenseSum::nll, c), nll_all = d.at(DenseSum::nll_all, c);
    const T nll_not = d.at(DenseSum::nll_not, c), nll_not_all = d.at(DenseSum::nll_not_all, c);
    const bool hinge = d.slopes && image.hinge, errors = d.slopes && !image.hinge;
    const T* table = d.slopes ? d.slopes + 2 * c * image.bins : nullptr;
    V value = V{};
    for (long i = 0; i < dense.block.live; i += dense.width) {
      const V w = dense.at(dense.weight, i), y = *(const V*)(t + i);
      V dz = V{};
      if (Wanted::probability || Wanted::logs) {
        const Element<T> x = dense.template element<link, Wanted::focal || valued>(dense.score(c, i), i);
        V A = V{}, N = V{}, M = V{};
        if constexpr (Wanted::probability) {
          A = prob + prob_sq * x.p + both * y + apart * DenseBlock<T>::sign(x.p - y);
          if (m) A += map_prob * m.at(i);
          if (errors) A += binning.slope(c, i, t, table);
        }
        if constexpr (Wanted::logs) {
          N = nll * y + nll_all;
          M = nll_not * (1 - y) + nll_not_all;
        }
        if constexpr (Wanted::focal) add_focal(x, y, &A, &N, &M);
        if constexpr (valued) value += w * ((N == 0 ? V{} : N * x.nll) + (M == 0 ? V{} : M * x.nll_not));  // 0 times infinity
        if constexpr (link == Link::sigmoid) {
          dz = DenseBlock<T>::times(x.p * x.q, A) - x.q * N + x.p * M;
        } else if constexpr (link == Link::identity) {
          const V floor = V{} + Block<T>::floor;
          dz = A - (x.p < floor ? V{} : N / x.p) + (x.q < floor ? V{} : M / x.q);
        } else {
          dz = A;
          *(V*)(logs_out + i) = w * N;
        }
      }
      if (hinge) dz += binning.slope(c, i, t, table);
      *(V*)(out + i) = w * dz;
    }
    if constexpr (valued) *total += sum_lanes<T>(value);
  }

  // What the focal sums add: by u to A, by ce to N and M.
  LOSSFOLD_INLINE void add_focal(const Element<T>& x, V y, V* A, V* N, V* M) const {
    const V u = DenseBlock<T>::miss(x, y), ce = DenseBlock<T>::cross(x, y);
    V by_ce = V{}, by_u = V{};
    for (int j = 0; j < d.gammas; ++j) {
      const auto& one = d.focal[j];
      const V m = power(u, one.gamma - 1), share = at(one.focal, c) * y + at(one.focal_not, c) * (1 - y);
      by_ce += share * (u * m);
      by_u += (T)one.gamma * m * (share * ce + at(one.focal_weight, c));
    }
    by_u = u > V{} + Block<T>::tiny ? by_u : V{};  // below, u is held and has no derivative
    *A += by_u * (1 - 2 * y);
    *N += by_ce * y;
    *M += by_ce * (1 - y);
  }
  static LOSSFOLD_INLINE T at(const T* row, long c) { return row ? row[c] : 0; }
};

template <class T>
LOSSFOLD_APART void unfold_channel(const UnfoldChannel<T, true>& channel) {
  Groups groups = channel.dense.groups();
  groups.logs = true;
  with_constants(channel.dense.image.link, groups, channel);
}

template <class T>
LOSSFOLD_APART void unfold_channel(const UnfoldChannel<T, false>& channel) {
  Groups groups = channel.dense.groups();
  groups.probability |= channel.d.slopes && !channel.dense.image.hinge;
  if (groups.probability || groups.logs || groups.focal) return with_constants(channel.dense.image.link, groups, channel);
  channel.template run<Link::sigmoid, Constants<false, false, false>>();
}

// The block's scores become their gradient.
template <class T, class EachRow>
LOSSFOLD_INLINE void differentiate(const DenseBlock<T>& dense, const DenseBinning<T>& binning, const DenseDerivatives<T>& d, T* logs, double* value, EachRow each_row) {
  using V = typename Lanes<T>::V;
  const DenseImage& image = dense.image;
  Block<T>& block = dense.block;
  const long n = block.n;
  const auto unfold = [&](long c, T* out, double* total) {
    const T* t = dense.take(c, each_row);
    const MapRow<T> m = d.of[(int)DenseSum::map_prob] ? dense.map_of(c, each_row) : MapRow<T>{};
    if (total) unfold_channel(UnfoldChannel<T, true>{dense, binning, d, c, t, m, out, logs, total});
    else unfold_channel(UnfoldChannel<T, false>{dense, binning, d, c, t, m, out, logs, nullptr});
  };
  dense.begin(each_row);
  if (image.link != Link::softmax) {
    for (long c = 0; c < image.classes; ++c) unfold(c, block.rows + c * n, value ? value + c : nullptr);
    return;
  }
  T *dot = block.dot, *sum = block.p, *A = block.u;  // sum_j p_j A_j and sum_j N_j
  for (long i = 0; i < block.live; ++i) dot[i] = sum[i] = logs[i] = 0;
  for (int turn = 0; turn < 2; ++turn)
    for (long c = 0; c < image.classes; ++c) {
      unfold(c, A, value && turn == 0 ? value + c : nullptr);
      for (long i = 0; i < block.live; i += block.width) {
        V& z = block.at(block.rows, c * n + i);
        const V p = exp_(dense.score(c, i)) * block.at(block.inverse, i), a = block.at(A, i), N = block.at(logs, i);
        if (turn == 0) {
          block.at(dot, i) += p * a;
          block.at(sum, i) += N;
        } else {
          z = p * (a - block.at(dot, i) + block.at(sum, i)) - N;
        }
      }
    }
}

template <class T>
void unfold(const DenseImage& image, long begin, long end, void* work, const double* grad, const void* slopes, GradientLayout layout,
            void* grad_scores, double* value, BadTarget* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  const DenseBlock<T> dense(image, block, arena, bad);
  const DenseBinning<T> binning(dense, arena);
  const DenseDerivatives<T> derivatives(image, arena, grad, slopes);
  T* logs = arena.take<T>(block.n);
  if (image.resized) {
    Grid<T> grid(block, arena);
    GridGradient<T> gradient(grid, layout, grad_scores, arena);
    const auto visit = [&](long y, long rows) {
      differentiate(dense, binning, derivatives, logs, value, grid.runs(y, rows));
      gradient.add(rows, [&](long c, long i) { return block.at(block.rows, c * block.n + i); }, nullptr);
    };
    return grid.walk(begin, end, nullptr, visit, [&](long next) { gradient.hand_over(next); });
  }
  for (long start = begin; start < end; start += block.n) {
    const long count = end - start < block.n ? end - start : block.n;
    block.read(start, count, nullptr);
    differentiate(dense, binning, derivatives, logs, value, [&](auto run) { block.runs(start, count, run); });
    block.write(grad_scores, layout, start, count);
  }
  finish_streaming();
}

// Sum of w factor_c over the elements: what the mean of such a loss is divided by.
template <class T>
double count(const DenseImage& image, long begin, long end, void* work, const double* factors, BadTarget* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  const DenseBlock<T> dense(image, block, arena, bad);
  double total = 0;
  for (long start = begin; start < end; start += block.n) {
    const long count = end - start < block.n ? end - start : block.n;
    const auto each_row = [&](auto run) { block.runs(start, count, run); };
    block.read_targets(start, count, nullptr);
    if (image.together) dense.share_weights(each_row);
    for (long c = 0; c < image.classes; ++c) {
      if (factors[c] == 0) continue;
      dense.take(c, each_row);
      typename DenseBlock<T>::V sum = {};
      for (long i = 0; i < block.live; i += block.width) sum += dense.at(dense.weight, i);
      total += factors[c] * sum_lanes<T>(sum);
    }
  }
  return total;
}

}  // namespace
}  // namespace lossfold

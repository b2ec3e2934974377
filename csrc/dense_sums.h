// The dense fold: sums over the elements of a chunk. The map: the same integrand, element by element.
#pragma once

#include "dense_bins.h"

namespace lossfold {
namespace {

template <class T>
struct SumChannel {
  using V = typename Lanes<T>::V;
  const DenseBlock<T>& dense;
  const long c;
  const T* t;  // targets
  const MapRow<T> m;  // if it is read
  double* sums;  // [kinds, classes]

  template <Link link, class Wanted>
  LOSSFOLD_INLINE void run() const {
    const DenseImage& image = dense.image;
    double gamma = 0;  // of the focal sums; those of further gammas are collected from u and ce
    int gammas = 0;
    for (int k = image.dense_sums - 1; k >= 0; --k)
      if (image.dense_kinds[k] >= DenseSum::focal && (gammas == 0 || image.dense_gammas[k] != gamma)) gamma = image.dense_gammas[k], ++gammas;
    const long step = image.abreast ? dense.block.columns : dense.width;  // of images side by side each lane is one
    for (long from = 0; from < step; from += dense.width) add<link, Wanted>(from, step, gamma, gammas);
  }

  // Add what the vectors from `from` on have, `step` apart.
  template <Link link, class Wanted>
  LOSSFOLD_INLINE void add(long from, long step, double gamma, int gammas) const {
    const DenseImage& image = dense.image;
    V weight = V{}, target = V{}, target_sq = V{}, map_size = V{}, map_prob = V{}, prob = V{}, prob_sq = V{}, both = V{}, apart = V{};
    V nll = V{}, nll_all = V{}, nll_not = V{}, nll_not_all = V{}, focal = V{}, focal_not = V{}, focal_weight = V{};
    for (long i = from; i < dense.block.live; i += step) {
      const V w = dense.at(dense.weight, i), y = *(const V*)(t + i), wt = w * y;
      weight += w;
      target += wt;
      target_sq += wt * y;
      const V far = m ? m.at(i) : V{};
      map_size += w * DenseBlock<T>::size(far);
      const Element<T> x = dense.template element<link, Wanted::logs, Wanted::probability>(dense.score(c, i), i);
      if constexpr (Wanted::probability) {
        const V wp = w * x.p;
        prob += wp;
        prob_sq += wp * x.p;
        both += wt * x.p;
        apart += w * DenseBlock<T>::size(x.p - y);
        map_prob += wp * far;
      }
      if constexpr (Wanted::logs) {
        nll += DenseBlock<T>::times(wt, x.nll);
        nll_all += w * x.nll;
        nll_not += DenseBlock<T>::times(w - wt, x.nll_not);
        nll_not_all += w * x.nll_not;
      }
      if constexpr (Wanted::focal) {
        const V u = DenseBlock<T>::miss(x, y), ce = DenseBlock<T>::cross(x, y), m = power(u, gamma);
        focal += DenseBlock<T>::times(wt, m * ce);
        focal_not += DenseBlock<T>::times(w - wt, m * ce);
        focal_weight += w * m;
        if (gammas == 1) continue;
        dense.at(dense.u, i) = u;
        dense.at(dense.ce, i) = ce;
      }
    }
    const V found[] = {weight, target, target_sq, map_size, prob, prob_sq, both, apart, map_prob, nll, nll_all, nll_not, nll_not_all, focal, focal_not, focal_weight};
    static_assert(sizeof(found) / sizeof(V) == (unsigned long)DenseSum::count, "one of each kind, in their order");
    for (int k = 0; k < image.dense_sums; ++k) {
      const DenseSum kind = image.dense_kinds[k];
      const bool further = kind >= DenseSum::focal && image.dense_gammas[k] != gamma;
      const V total = further ? powers(kind, image.dense_gammas[k], from, step) : found[(int)kind];
      dense.block.hand_over(sums + k * image.classes + c, from, total);
    }
  }

  LOSSFOLD_APART V powers(DenseSum kind, double gamma, long from, long step) const {
    V total = V{};
    for (long i = from; i < dense.block.live; i += step) {
      const V w = dense.at(dense.weight, i), y = *(const V*)(t + i), m = power(dense.at(dense.u, i), gamma);
      const V share = kind == DenseSum::focal ? w * y : kind == DenseSum::focal_not ? w - w * y : w;
      total += kind == DenseSum::focal_weight ? share * m : DenseBlock<T>::times(share, m * dense.at(dense.ce, i));
    }
    return total;
  }
};

template <class T>
LOSSFOLD_APART void sum_channel(const SumChannel<T>& channel, Groups groups) {
  if (groups.probability || groups.logs || groups.focal) return with_constants(channel.dense.image.link, groups, channel);
  channel.template run<Link::sigmoid, Constants<false, false, false>>();
}

template <class T>
void fold(const DenseImage& image, long begin, long end, void* work, double* sums, const BinWords& bins, BadTarget* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  DenseBlock<T> dense(image, block, arena, bad);
  DenseBinning<T> binning(dense, arena);
  const Groups groups = dense.groups();
  each_block(block, arena, begin, end, nullptr, [&](auto each_row) {
    dense.begin(each_row);
    for (long c = 0; c < image.classes; ++c) {
      const T* t = dense.take(c, each_row);
      sum_channel(SumChannel<T>{dense, c, t, dense.map_of(c, each_row), sums}, groups);
      if (image.bins) binning.add(c, t, bins);
    }
  });
}

// value += the shares of one channel, weighted by its coefficients.
template <class T>
struct MapChannel {
  using V = typename Lanes<T>::V;
  const DenseBlock<T>& dense;
  const long c;
  const T* t;
  const MapRow<T> m;
  const double* coef;  // [kinds, classes]
  T* value;

  template <Link link, class Wanted>
  LOSSFOLD_INLINE void run() const {
    constexpr bool logs = Wanted::logs;
    const DenseImage& image = dense.image;
    for (long i = 0; i < dense.block.live; i += dense.width) {
      const V w = dense.at(dense.weight, i), y = *(const V*)(t + i);
      const Element<T> x = dense.template element<link, logs>(dense.score(c, i), i);
      V total = V{};
      for (int k = 0; k < image.dense_sums; ++k) {
        const T a = (T)coef[k * image.classes + c];
        switch (image.dense_kinds[k]) {
          case DenseSum::weight: total += a; break;
          case DenseSum::target: total += a * y; break;
          case DenseSum::target_sq: total += a * y * y; break;
          case DenseSum::map_size: total += a * DenseBlock<T>::size(m.at(i)); break;
          case DenseSum::map_prob: total += a * x.p * m.at(i); break;
          case DenseSum::prob: total += a * x.p; break;
          case DenseSum::prob_sq: total += a * x.p * x.p; break;
          case DenseSum::both: total += a * x.p * y; break;
          case DenseSum::apart: total += a * DenseBlock<T>::size(x.p - y); break;
          default:
            if constexpr (logs) total += DenseBlock<T>::times(V{} + a, log_share(image.dense_kinds[k], image.dense_gammas[k], x, y));
        }
      }
      dense.at(value, i) += w * total;
    }
  }

  LOSSFOLD_INLINE static V log_share(DenseSum kind, double gamma, const Element<T>& x, V y) {
    switch (kind) {
      case DenseSum::nll: return DenseBlock<T>::times(y, x.nll);
      case DenseSum::nll_all: return x.nll;
      case DenseSum::nll_not: return DenseBlock<T>::times(1 - y, x.nll_not);
      case DenseSum::nll_not_all: return x.nll_not;
      case DenseSum::focal: return DenseBlock<T>::times(y, power(DenseBlock<T>::miss(x, y), gamma) * DenseBlock<T>::cross(x, y));
      case DenseSum::focal_not: return DenseBlock<T>::times(1 - y, power(DenseBlock<T>::miss(x, y), gamma) * DenseBlock<T>::cross(x, y));
      default: return power(DenseBlock<T>::miss(x, y), gamma);
    }
  }
};

template <class T>
LOSSFOLD_APART void map_channel(const MapChannel<T>& channel, Groups groups) {
  with_constants(channel.dense.image.link, groups, channel);
}

template <class T>
void map(const DenseImage& image, long begin, long end, void* work, const double* coef, void* out, BadTarget* bad) {
  Arena arena{(char*)work};
  Block<T> block(image, arena);
  DenseBlock<T> dense(image, block, arena, bad);
  const bool together = image.together;
  const Groups groups = dense.groups();
  T* value = dense.first;
  each_block(block, arena, begin, end, nullptr, [&](auto each_row) {
    dense.begin(each_row);
    for (long c = 0; c < image.classes; ++c) {
      const T* t = dense.take(c, each_row);  // uses `first`, where there are weights for elements
      if (c == 0 || !together)
        for (long i = 0; i < block.live; ++i) value[i] = 0;
      map_channel(MapChannel<T>{dense, c, t, dense.map_of(c, each_row), coef, value}, groups);
      if (together && c + 1 < image.classes) continue;
      each_row([&](long start, long at, long count) {
        const long to = together ? start : block.element(c, start), step = together ? block.pixel_step() : block.element_step();
        store(sizeof(T) == 8 ? Type::f64 : Type::f32, out, to, step, count, value + at);
      });
    }
  });
}

}  // namespace
}  // namespace lossfold

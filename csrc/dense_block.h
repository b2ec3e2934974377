// One block of the dense fold: a channel's targets and weights beside its scores, and what every element needs.
//
// With p = 1 / (1 + exp(-z)), q = 1 - p and e = exp(-|z|): the smaller of p and q is e / (1 + e), and
// -log p = log(1 + e) + max(-z, 0), -log q = log(1 + e) + max(z, 0). Nothing cancels, so that both ends keep their digits.
#pragma once

#include "grid.h"

namespace lossfold {
namespace {

template <class T>
struct Element {
  using V = typename Lanes<T>::V;
  V p, q, nll, nll_not;  // probability and its complement; -log p, -log q where they are asked for
};

// Which groups of the sums are asked for: those of p, those of its logarithms, the focal ones (which take p and logarithms).
struct Groups {
  bool probability, logs, focal;
};

template <class T>
struct DenseBlock {
  using V = typename Lanes<T>::V;
  static constexpr long width = Lanes<T>::width;
  const DenseImage& image;
  Block<T>& block;
  T *targets, *weight;    // of a channel; the targets of all where they count together
  T *first, *second;      // scratch
  const long target_size;
  T *u, *ce;
  BadTarget* bad;

  DenseBlock(const DenseImage& image_, Block<T>& block_, Arena& arena, BadTarget* bad_) : image(image_), block(block_), target_size(size_of(image_.target_type)), bad(bad_) {
    targets = arena.take<T>(block.n * (image.together ? image.classes : 1));
    T** const rows[] = {&weight, &first, &second, &u, &ce};
    for (T** row : rows) *row = arena.take<T>(block.n);
  }
  static long bytes(const DenseImage& image) {
    const long n = block_pixels<T>(image);
    return n * (5 + (image.together ? image.classes : 1)) * (long)sizeof(T) + 8 * alignment;
  }

  LOSSFOLD_INLINE V& at(T* row, long i) const { return *(V*)(row + i); }

  Groups groups() const {
    Groups found{false, false, false};
    for (int k = 0; k < image.dense_sums; ++k) {
      const DenseSum kind = image.dense_kinds[k];
      found.probability |= kind >= DenseSum::prob && kind < DenseSum::nll;
      found.logs |= kind >= DenseSum::nll && kind < DenseSum::focal;
      found.focal |= kind >= DenseSum::focal;
    }
    return found;
  }

  template <class S>
  LOSSFOLD_APART void load_integers(long start, long step, long n, T* __restrict t, T* __restrict w) const {
    const S* __restrict from = (const S*)image.targets + start;
    const bool wrong = step == 1 ? take_integers<1>(from, step, n, t, w) : take_integers<0>(from, step, n, t, w);
    if (wrong)
      for (long i = 0; i < n; ++i)
        if (w[i] != 0 && (from[i * step] < 0 || from[i * step] > 1)) *bad = {true, (double)from[i * step]};
  }
  // Returns whether one is neither 0 nor 1. known: the step, or 0.
  template <long known, class S>
  LOSSFOLD_INLINE bool take_integers(const S* __restrict from, long step, long n, T* __restrict t, T* __restrict w) const {
    const long long ignore = image.ignore_index;
    const bool ignores = image.integers;
    bool wrong = false;
    for (long i = 0; i < n; ++i) {
      const long long y = from[i * (known ? known : step)];
      const bool ignored = ignores && y == ignore;
      wrong |= !ignored && w[i] != 0 && (unsigned long long)y > 1;
      t[i] = !ignored && y == 1 ? 1 : 0;
      w[i] = ignored ? 0 : w[i];
    }
    return wrong;
  }

  // Targets a little outside [0, 1], as interpolation makes them, are let through.
  void load_numbers(long start, long step, long n, T* __restrict t, const T* __restrict w) const {
    typedef typename Lanes<T>::Loose Loose;
    load(image.target_type, image.targets, start, step, n, t);
    const T low = (T)-0.01, high = (T)1.01;
    typename Lanes<T>::LooseI wrong = {};
    long i = 0;
    for (; i + width <= n; i += width) {
      Loose& y = *(Loose*)(t + i);
      y = *(const Loose*)(w + i) == 0 ? Loose{} : y;
      wrong |= ~((y >= low) & (y <= high));
    }
    bool rest = false;
    for (; i < n; ++i) {
      t[i] = w[i] == 0 ? 0 : t[i];
      rest |= !(t[i] >= low && t[i] <= high);
    }
    if (rest || any((typename Lanes<T>::I)wrong))
      for (long i = 0; i < n; ++i)
        if (!(t[i] >= low && t[i] <= high)) *bad = {true, (double)t[i]};
  }

  // Targets `t` and weights `w` of channel c; each_row is each_block's.
  template <class EachRow>
  LOSSFOLD_INLINE void load_channel(long c, T* t, T* w, EachRow each_row) const {
    for (long i = 0; i < block.live; ++i) t[i] = 0, w[i] = block.weight[i];
    block.prefetch(c);
    each_row([&](long start, long row, long count) {
      const long from = block.element(c, start), step = block.element_step();
      if (block.upcoming) prefetch((const char*)image.targets + (from + count) * target_size, count * target_size);
      if (image.element_weight) {
        load(image.weight_type, image.element_weight, from, step, count, first);
        for (long i = 0; i < count; ++i) w[row + i] *= first[i];
      }
      switch (image.target_type) {
        case Type::i64: return load_integers<long long>(from, step, count, t + row, w + row);
        case Type::i32: return load_integers<int>(from, step, count, t + row, w + row);
        case Type::u8: return load_integers<u8>(from, step, count, t + row, w + row);
        case Type::b8: return load_integers<Truth>(from, step, count, t + row, w + row);
        default: load_numbers(from, step, count, t + row, w + row);
      }
    });
  }

  // A pixel may have to count in every channel.
  template <class EachRow>
  LOSSFOLD_INLINE void share_weights(EachRow each_row) const {
    for (long c = 0; c < image.classes; ++c) {
      load_channel(c, targets + c * block.n, weight, each_row);
      for (long i = 0; i < block.live; ++i) block.weight[i] = weight[i] == 0 ? 0 : block.weight[i];
    }
  }

  // What all channels share, before they are walked: a pixel's weight; with softmax the scores become
  // z - m, `inverse` 1 / sum exp(z - m), `second` its -log.
  template <class EachRow>
  LOSSFOLD_INLINE void begin(EachRow each_row) const {
    if (!image.together) return;
    const long n = block.n;
    share_weights(each_row);
    if (image.link != Link::softmax) return;
    block.blank();
    block.maximal = false;
    block.find_max();
    for (long i = 0; i < block.live; i += width) block.at(block.inverse, i) = V{};
    for (long c = 0; c < image.classes; ++c)
      for (long i = 0; i < block.live; i += width) {
        const V x = block.at(block.rows, c * n + i) - block.at(block.high, i);
        block.at(block.rows, c * n + i) = x;
        block.at(block.inverse, i) += exp_(x);
      }
    for (long i = 0; i < block.live; i += width) {
      const V s = block.at(block.inverse, i);
      at(second, i) = log_(s);
      block.at(block.inverse, i) = 1 / s;
    }
  }

  // Targets and weights of channel c.
  template <class EachRow>
  LOSSFOLD_INLINE T* take(long c, EachRow each_row) const {
    if (!image.together) {
      load_channel(c, targets, weight, each_row);
      return targets;
    }
    T* t = targets + c * block.n;
    for (long i = 0; i < block.live; i += width) {
      const V w = block.at(block.weight, i);
      at(weight, i) = w;
      at(t, i) = w == 0 ? V{} : at(t, i);
    }
    return t;
  }

  // The map of channel c, whose weights are there.
  template <class EachRow>
  LOSSFOLD_INLINE MapRow<T> map_of(long c, EachRow each_row) const {
    if (!image.maps) return {};
    if (const char* row = block.coming_map(c + image.classes)) prefetch(row, block.n * size_of(image.map_type));
    return block.map_of(c, weight, block.map_in_place(weight), each_row);
  }

  // A score; where nothing counts, 0.
  LOSSFOLD_INLINE V score(long c, long i) const { return at(weight, i) == 0 ? V{} : block.at(block.rows, c * block.n + i); }

  template <Link link, bool logs, bool probability = true>
  LOSSFOLD_INLINE Element<T> element(V z, long i) const {
    Element<T> x;
    if constexpr (link == Link::sigmoid) {
      const V e = exp_(z < 0 ? z : -z), one = 1 + e, two = 2 + e;
      const V r = reciprocal(logs ? one * two : one);  // both quotients from one division
      if constexpr (probability) {
        const V larger = logs ? r * two : r, smaller = e * larger;
        x.p = z >= 0 ? larger : smaller;
        x.q = z >= 0 ? smaller : larger;
      }
      if constexpr (logs) {
        const V both = log1p_from(e, e * (r * one));
        x.nll = both + (z < 0 ? -z : V{});
        x.nll_not = both + (z > 0 ? z : V{});
      }
    } else {
      x.p = link == Link::softmax ? exp_(z) * block.at(block.inverse, i) : z;
      x.q = 1 - x.p;
      if constexpr (logs) {
        x.nll = link == Link::softmax ? at(second, i) - z : block.neg_log(x.p);
        x.nll_not = block.neg_log(x.q);
      }
    }
    return x;
  }

  static LOSSFOLD_INLINE V sign(V x) { return x > 0 ? V{} + 1 : x < 0 ? V{} - 1 : V{}; }
  static LOSSFOLD_INLINE V size(V x) { return x < 0 ? -x : x; }

  // u = p (1-t) + q t, at least tiny: every power of it has a finite slope.
  static LOSSFOLD_INLINE V miss(const Element<T>& x, V t) {
    const V value = x.p * (1 - t) + x.q * t, least = V{} + Block<T>::tiny;
    return value < least ? least : value;
  }
  // a x, where 0 times infinity is 0: what does not count costs nothing, whatever its logarithm.
  static LOSSFOLD_INLINE V times(V a, V x) { return a == 0 ? V{} : a * x; }
  static LOSSFOLD_INLINE V cross(const Element<T>& x, V t) { return times(t, x.nll) + times(1 - t, x.nll_not); }
};

template <bool p, bool l, bool f>
struct Constants {
  static constexpr bool probability = p, logs = l, focal = f;
};

template <Link link, class Work>
LOSSFOLD_INLINE void with_groups(Groups groups, Work work) {
  if (groups.focal) return work.template run<link, Constants<true, true, true>>();
  if (groups.probability && groups.logs) return work.template run<link, Constants<true, true, false>>();
  if (groups.logs) return work.template run<link, Constants<false, true, false>>();
  return work.template run<link, Constants<true, false, false>>();
}

// work.run() with the link and the groups as constants.
template <class Work>
LOSSFOLD_INLINE void with_constants(Link link, Groups groups, Work work) {
  switch (link) {
    case Link::softmax: return with_groups<Link::softmax>(groups, work);
    case Link::sigmoid: return with_groups<Link::sigmoid>(groups, work);
    default: return with_groups<Link::identity>(groups, work);
  }
}

}  // namespace
}  // namespace lossfold

// The histogram of each class's errors, |[y = c] - p_c|: filling it, and reading a pixel's slope back from it.
#pragma once

#include "block.h"

namespace lossfold {
namespace {

template <class T>
struct Binning {
  typedef typename Lanes<T>::V V;
  typedef typename Lanes<T>::I I;
  typedef typename Lanes<T>::Int Int;
  const Block<T>& block;
  const Image& image;
  const T count;    // bins
  const Int last;   // bin
  Int *key, *slot;  // a pixel's label, -1 without weight; where it goes in the histogram
  Int* fixed;       // its place inside the bin, times 2^24
  long listed = 0;  // how many of these two
  bool bins_packed = false;
  I zeros, zero_places;  // pixels in bin 0 that were not listed, and the sum of their places

  Binning(const Block<T>& block_, Arena& arena)
      : block(block_), image(block.image), count((T)image.bins), last((Int)image.bins - 1) {
    Int** const rows[] = {&key, &slot, &fixed};
    for (Int** row : rows) *row = arena.take<Int>(image.bins ? block.n : 0);
  }
  static long bytes(const Image& image) { return image.bins ? 3 * (block_pixels<T>(image) * (long)sizeof(T) + alignment) : 0; }
  static long row(const Image& image) { return image.bins + BinWords::spare; }

  LOSSFOLD_INLINE I& at(Int* values, long i) const { return *(I*)(values + i); }
  LOSSFOLD_INLINE static V clamp(V p) { return p < 0 ? V{} : p > 1 ? V{} + 1 : p; }

  // p_c of a row of the block, taken into [0, 1].
  LOSSFOLD_INLINE V probability(const T* row, long i) const {
    const V p = *(const V*)(row + i);
    return clamp(image.softmax ? p * block.at(block.inverse, i) : p);
  }

  // The bin of an error in [0, 1] and the place inside it; NaN goes to bin 0.
  LOSSFOLD_INLINE I bin(V error, V* position) const {
    V place = error * count;
    place = place >= 0 ? place : V{};
    I whole = __builtin_convertvector(place, I);
    whole = whole > last ? I{} + last : whole;
    *position = place - __builtin_convertvector(whole, V);
    return whole;
  }

  LOSSFOLD_INLINE void place(V error, I skip) {
    V position;
    const I to = bin(error, &position);
    put(to, position, error == error, skip, I{}, I{});
  }

  // Put a vector of pixels on the list of what goes where, `beyond` slots further; if all are in bin 0 and none is `special`, as
  // for most of a trained network, only count them and add up their places.
  LOSSFOLD_INLINE void put(I to, V position, I number, I skip, I special, I beyond) {
    const Int spread = last + 1;
    const V scaled = position * 16777216;
    I fix = __builtin_convertvector(scaled, I);
    fix -= scaled - __builtin_convertvector(fix, V) >= (T)0.5;  // true is -1
    if (bins_packed && !any((to | ~number | special) & ~skip)) {
      zeros -= ~skip;
      zero_places += fix & ~skip;
      return;
    }
    to = to == 0 ? lanes() + spread : to;
    to = number ? to : I{} + (spread + BinWords::not_a_number);
    to = skip ? I{} + (spread + BinWords::nowhere) : to;
    at(slot, listed) = to + beyond;
    at(fixed, listed) = fix;
    listed += Lanes<T>::width;
  }
  LOSSFOLD_INLINE static I lanes() {
    I k;
    for (long j = 0; j < Lanes<T>::width; ++j) k[j] = j;
    return k;
  }

  LOSSFOLD_INLINE void take_zeros(unsigned long long* words) {
    unsigned long long count = 0, places = 0;
    for (long j = 0; j < Lanes<T>::width; ++j) count += (unsigned long long)zeros[j], places += (unsigned long long)zero_places[j];
    words[0] += (count << BinWords::count_shift) + places;
    zeros = zero_places = I{};
  }

  LOSSFOLD_INLINE void scatter(const BinWords& bins, unsigned long long* words, long plane, const T* weight) {
    if (bins.packed) {
      for (long i = 0; i < listed; ++i) words[slot[i]] += (1ull << BinWords::count_shift) + (unsigned long long)fixed[i];
    } else {
      for (long i = 0; i < listed; ++i) {
        const double w = weight[i], scaled = w * 16777216.0, at = w * (double)fixed[i];
        if (!(w - w == 0)) {  // infinite or NaN
          words[slot[i] - slot[i] % row(image) + last + 1 + BinWords::not_a_number] += 1ull << 24;
          continue;
        }
        words[slot[i]] += (unsigned long long)(long long)(scaled + (scaled < 0 ? -0.5 : 0.5));
        words[plane + slot[i]] += (unsigned long long)(long long)(at + (at < 0 ? -0.5 : 0.5));
      }
    }
    listed = 0;
  }

  // Add the block's pixels; their probabilities are row * inverse (softmax) or row itself.
  void add(const BinWords& bins) {
    const long n = block.n, width = Lanes<T>::width, stride = row(image), plane = 2 * image.classes * stride;
    for (long i = 0; i < block.live; ++i) key[i] = block.weight[i] == 0 ? -1 : block.label[i];
    bins_packed = bins.packed;
    for (long c = 0; c < image.classes; ++c) {
      unsigned long long* words = bins.words + (2 * c + 1) * stride;
      zeros = zero_places = I{};
      for (long i = 0; i < block.live; i += width) {
        place(probability(block.rows + c * n, i), (at(key, i) == (Int)c) | (at(key, i) < 0));
        if (i / width % 64 == 63) take_zeros(words);  // before a lane's sum of places reaches 2^31
      }
      take_zeros(words);
      scatter(bins, words, plane, block.weight);
    }
    bins_packed = false;  // the foreground is listed whole: its slots lie in the tables of different classes
    block.gather_label(block.rows, block.first);
    for (long i = 0; i < block.live; i += width) {
      place(1 - probability(block.first, i), at(key, i) < 0);
      at(slot, i) += (at(key, i) < 0 ? I{} : at(key, i)) * (Int)(2 * stride);
    }
    scatter(bins, bins.words, plane, block.weight);
  }

  // block.slopes = d loss / d p_c of every pixel and class, from `table`: for each class the foreground's, then the
  // background's slopes of the error by bin. Where a probability was clamped there is none.
  void find_slopes(const T* table) const {
    const long n = block.n, width = Lanes<T>::width, bins = image.bins;
    V position;
    for (long c = 0; c < image.classes; ++c) {
      const T* background = table + (2 * c + 1) * bins;
      for (long i = 0; i < block.live; i += width) {
        const I to = bin(probability(block.rows + c * n, i), &position);
        const V slope = any(to) ? look_up(background, to) : V{} + background[0], p = block.at(block.rows, c * n + i);
        block.at(block.slopes, c * n + i) = image.softmax ? slope : (p >= 0) & (p <= 1) ? slope : V{};
      }
    }
    block.gather_label(block.rows, block.first);
    for (long i = 0; i < block.live; i += width) at(slot, i) = bin(1 - probability(block.first, i), &position);
    for (long i = 0; i < block.live; ++i) {
      const long y = block.label[i];
      const bool inside = image.softmax || (block.first[i] >= 0 && block.first[i] <= 1);
      block.slopes[y * n + i] = inside ? -table[2 * y * bins + slot[i]] : 0;
    }
  }
};

}  // namespace
}  // namespace lossfold

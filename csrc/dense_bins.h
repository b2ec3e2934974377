// The histogram of each channel's errors, in the dense fold: |t - p| with targets rounded, or the hinge 1 - z (2t - 1).
#pragma once

#include "dense_block.h"
#include "label_bins.h"

namespace lossfold {
namespace {

template <class T>
struct DenseBinning : Binning<T> {
  using V = typename Lanes<T>::V;
  using I = typename Lanes<T>::I;
  using Int = typename Lanes<T>::Int;
  static constexpr long width = Lanes<T>::width;
  static constexpr Int octaves = hinge_octaves;
  const DenseBlock<T>& dense;
  const Int each;

  DenseBinning(const DenseBlock<T>& dense_, Arena& arena)
      : Binning<T>(dense_.block, arena), dense(dense_), each(((Int)dense_.image.bins - hinge_rest) / octaves) {}

  // The bin of a hinge error and the place inside it. Bins are patterns of 1 + error, a float with few digits.
  LOSSFOLD_INLINE I hinge_bin(V error, V* position) const {
    constexpr int digits = sizeof(T) == 8 ? 52 : 23;
    const Int one = sizeof(T) == 8 ? (Int)0x3ff0000000000000 : (Int)0x3f800000, mask = ((Int)1 << digits) - 1;
    const I bits = (I)(1 + error), octave = (bits - one) >> digits;
    const V fraction = (V)((bits & mask) | one) - 1;
    const I fine = octave < octaves;
    const V place = fine ? fraction * (T)each : fraction;
    const I whole = __builtin_convertvector(place, I);
    *position = place - __builtin_convertvector(whole, V);
    I to = fine ? octave * each + whole : octave + (octaves * each - octaves);
    return to > this->last ? I{} + this->last : to;
  }

  struct Found {
    I bin, number, foreground;
    V position, p;
  };
  LOSSFOLD_INLINE Found find(long c, long i, const T* t) const {
    Found found;
    const V z = dense.score(c, i);
    found.foreground = *(const V*)(t + i) > (T)0.5;
    if (dense.image.hinge) {
      const V margin = found.foreground ? z : -z, error = 1 - margin;
      found.p = z;
      found.number = error < (sizeof(T) == 8 ? (T)0x1p128 : (T)__builtin_inf());
      found.bin = hinge_bin(found.number & (error > 0) ? error : V{}, &found.position);
      return found;
    }
    Element<T> x;
    if (dense.image.link == Link::sigmoid) x = dense.template element<Link::sigmoid, false>(z, i);
    else if (dense.image.link == Link::identity) x = dense.template element<Link::identity, false>(z, i);
    else x = dense.template element<Link::softmax, false>(z, i);
    found.p = x.p;
    const V error = Binning<T>::clamp(found.foreground ? x.q : x.p);
    found.number = error == error;
    found.bin = this->bin(error, &found.position);
    return found;
  }

  // Add channel c of the block.
  void add(long c, const T* t, const BinWords& bins) {
    const long stride = Binning<T>::row(dense.image), plane = 2 * dense.image.classes * stride;
    unsigned long long* words = bins.words + 2 * c * stride;
    this->bins_packed = bins.packed;
    this->zeros = this->zero_places = I{};
    for (long i = 0; i < dense.block.live; i += width) {
      const Found found = find(c, i, t);
      const I skip = (I)(dense.at(dense.weight, i) == 0);
      this->put(found.bin, found.position, found.number, skip, found.foreground, found.foreground ? I{} : I{} + (Int)stride);
      if (i / width % 64 == 63) this->take_zeros(words + stride);
    }
    this->take_zeros(words + stride);
    this->scatter(bins, words, plane, dense.weight);
  }

  // d loss / d p (with hinge d loss / d z) of a vector of channel c, from the channel's slopes of the error by bin: the
  // foreground's, then the background's. Where an error was clamped there is none.
  LOSSFOLD_INLINE V slope(long c, long i, const T* t, const T* table) const {
    const Found found = find(c, i, t);
    const V value = look_up(table, found.bin + (found.foreground ? I{} : I{} + (Int)dense.image.bins));
    const V turned = found.foreground ? -value : value;
    if (dense.image.hinge) return (found.foreground ? found.p : -found.p) < 1 ? turned : V{};
    return dense.image.link != Link::identity ? turned : (found.p >= 0) & (found.p <= 1) ? turned : V{};
  }
};

}  // namespace
}  // namespace lossfold

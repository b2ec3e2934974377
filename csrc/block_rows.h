// The rows of one block: loaded from scores, labels, weights and maps, written as a gradient.

#pragma once

#include "block_labels.h"

namespace lossfold {
namespace {

template <class T>
struct Rows {
  using V = typename Lanes<T>::V;
  static constexpr long width = Lanes<T>::width;
  const Image& image;
  const long n;                       // pixels a full block, the length of its rows
  long live = 0;                      // pixels in use, rounded up to whole vectors; the tail is weightless
  long columns = 0;                   // of one image row; at label resolution a block may have several. Or of images abreast
  long first_image = 0, images = 0;   // which lie abreast
  T *rows, *high, *label_score, *weight;  // scores then e_c; m; z_y - m (softmax) or p_y; w
  T *inverse, *nll, *p, *u;           // 1/s; -log p_y; p_y; 1 - p_y (at least tiny)
  T *first, *second, *dot;            // scratch a pixel
  T* powers;                          // (1-p_y)^gamma for each row of kinds
  T* kept;                            // 1 at the hard pixels
  T* slopes;                          // of each class's error, with a histogram
  T* map;                             // rows as the scores', 0 where nothing counts; unused where the map is read in place
  int* label;
  bool maximal = false;            // high is there already
  bool exponential = false;        // rows are e_c already, inverse their sum, label_score z_y - m: they stay as they are
  const char* upcoming = nullptr;  // where the next block's first row starts, if its pixels are neighbours in memory
  long upcoming_step = 0;          // bytes to the next row
  long after = 0;                  // the next block's first pixel

  Rows(const Image& image_, Arena& arena) : image(image_), n(block_pixels<T>(image_)) {
    rows = arena.take<T>(n * image.classes);
    T** const pixel_rows[] = {&high, &label_score, &weight, &inverse, &nll, &p, &u, &first, &second, &dot, &kept};
    for (T** row : pixel_rows) *row = arena.take<T>(n);
    powers = arena.take<T>(n * (image.sums ? image.sums : 1));
    label = arena.take<int>(n);
    slopes = image.bins ? arena.take<T>(n * image.classes) : nullptr;
    map = image.maps ? arena.take<T>(n * image.classes) : nullptr;
  }
  static long bytes(const Image& image) {
    const long n = block_pixels<T>(image);
    const long wide = image.classes * (1 + (image.bins > 0) + (image.maps != nullptr));
    return (n * (wide + 12 + image.sums) + 16 * alignment) * (long)sizeof(T) + n * (long)sizeof(int);
  }

  LOSSFOLD_INLINE V& at(T* row, long i) const { return *(V*)(row + i); }

  // Scores, labels and weights of the pixels [start, start + count).
  LOSSFOLD_INLINE void read(long start, long count, BadLabel* bad) {
    if (image.abreast) return read_abreast(start, count, bad);
    maximal = sizeof(T) == 4 && image.score_type == Type::f32 && image.pixel_stride == 1 && count == n && image.softmax;
    live = columns = (count + 15) / 16 * 16;
    exponential = maximal && asks() && count == live && !has(Sum::nll_all);
    if (exponential) {
      load_targets(start, count, 0, bad);
      return load_exponentials((const T*)image.scores + start);
    }
    const bool across = image.class_stride == 1 && load_across(image.score_type, image.scores, start * image.pixel_stride, image.pixel_stride, count, image.classes, rows, n);
    maximal &= !across;
    for (long c = 0; c < image.classes && !across; ++c) {
      T* row = rows + c * n;
      if (maximal) load_with_max(c, (const T*)image.scores + c * image.class_stride + start);
      else load(image.score_type, image.scores, c * image.class_stride + start * image.pixel_stride, image.pixel_stride, count, row);
    }
    load_targets(start, count, 0, bad);
    blank();
    if (image.pixel_stride == 1 && count == n) {
      const long size = size_of(image.score_type);
      upcoming = (const char*)image.scores + (start + n) * size;
      upcoming_step = image.class_stride * size;
      after = start + n;
    }
  }

  // Labels and weights alone.
  LOSSFOLD_APART void read_targets(long start, long count, BadLabel* bad) {
    if (!image.abreast) {
      live = columns = (count + 15) / 16 * 16;
      return load_targets(start, count, 0, bad);
    }
    first_image = start / image.pixels, images = count / image.pixels;
    columns = (images + 15) / 16 * 16;
    live = image.pixels * columns;
    for (long p = 0; p < image.pixels; ++p) load_targets(start + p, images, p * columns, bad);
  }

  // Those of small images: the first pixels of all, then the second ones, ..., so that each image has a lane of its own.
  LOSSFOLD_APART void read_abreast(long start, long count, BadLabel* bad) {
    read_targets(start, count, bad);
    const long first = first_image;
    const bool across = image.pixels == 1 && image.class_stride == 1 &&
                        load_across(image.score_type, image.scores, first * image.image_stride, image.image_stride, images, image.classes, rows, n);
    for (long c = 0; c < image.classes && !across; ++c) {
      const long start = c * image.class_stride + first * image.image_stride;
      if (image.pixels > 1 && image.pixel_stride == 1 && image.score_type == (sizeof(T) == 8 ? Type::f64 : Type::f32))
        turn((const T*)image.scores + start, image.image_stride, 1L, rows + c * n, 1L, columns);
      else
        for (long p = 0; p < image.pixels; ++p) load(image.score_type, image.scores, start + p * image.pixel_stride, image.image_stride, images, rows + c * n + p * columns);
    }
    blank();
  }

  // Copy the pixels of images side by side.
  LOSSFOLD_INLINE void turn(const T* __restrict from, long from_image, long from_pixel, T* __restrict to, long to_image, long to_pixel) const {
    for (long j = 0; j < images; ++j)
      for (long p = 0; p < image.pixels; ++p) to[j * to_image + p * to_pixel] = from[j * from_image + p * from_pixel];
  }

  // run(start, at, count) for the runs of pixels of a block, which begin at `at` in its rows and lie pixel_step() apart.
  template <class Run>
  LOSSFOLD_INLINE void runs(long start, long count, Run run) const {
    if (!image.abreast) return run(start, 0, count);
    for (long p = 0; p < image.pixels; ++p) run(start + p, p * columns, images);
  }
  LOSSFOLD_INLINE long pixel_step() const { return image.abreast ? image.pixels : 1; }

  // Where a pixel of class c is in tensors with a number for each class and pixel, and how far a run's next one is.
  LOSSFOLD_INLINE long element(long c, long pixel) const {
    if (!image.abreast) return c * image.pixels + pixel;
    return (pixel / image.pixels * image.classes + c) * image.pixels + pixel % image.pixels;
  }
  LOSSFOLD_INLINE long element_step() const { return image.abreast ? image.classes * image.pixels : 1; }

  // Whether the map may be read where it lies: where all of the block counts.
  LOSSFOLD_INLINE bool map_in_place(const T* w) const {
    if (!MapRow<T>::reads(image.map_type) || image.abreast || image.resized) return false;
    typename Lanes<T>::I none = {};
    for (long i = 0; i < live; i += width) none |= *(const V*)(w + i) == 0;
    return !any(none);
  }

  // Where a row of the map is that will be read soon: of this block, or beyond the last class of the next; null where there is none.
  LOSSFOLD_INLINE const char* coming_map(long c) const {
    if (!upcoming || c >= 2 * image.classes) return nullptr;
    const long from = c < image.classes ? after - n : after;
    return (const char*)image.maps + (c % image.classes * image.pixels + from) * size_of(image.map_type);
  }

  // The map of class c, 0 where the weight w is: what does not count may be infinite or NaN there. each_row is each_block's.
  template <class EachRow>
  LOSSFOLD_INLINE MapRow<T> map_of(long c, const T* w, bool in_place, EachRow each_row) const {
    MapRow<T> found{(const char*)(map + c * n)};
    each_row([&](long start, long row, long count) {
      const long from = element(c, start);
      if (in_place) found = {(const char*)image.maps + from * size_of(image.map_type), image.map_type};  // there is one run, and no padding after it
      else load(image.map_type, image.maps, from, element_step(), count, map + c * n + row);
    });
    if (!in_place)
      for (long i = 0; i < live; i += width) at(map, c * n + i) = *(const V*)(w + i) == 0 ? V{} : at(map, c * n + i);
    return found;
  }

  // The block's rows become the gradient of its scores.
  LOSSFOLD_INLINE void write(void* gradient, const GradientLayout& layout, long start, long count) const {
    const bool stream = layout.stream && layout.pixel_stride == 1 && !image.abreast;
    if (layout.class_stride == 1 && (!image.abreast || image.pixels == 1) &&
        store_across(image.score_type, gradient, image.abreast ? first_image * layout.image_stride : start * layout.pixel_stride,
                     image.abreast ? layout.image_stride : layout.pixel_stride, image.abreast ? images : count, image.classes, rows, n))
      return;
    for (long c = 0; c < image.classes; ++c) {
      const T* row = rows + c * n;
      const long at = c * layout.class_stride + (image.abreast ? first_image * layout.image_stride : start * layout.pixel_stride);
      if (image.abreast && image.pixels > 1 && layout.pixel_stride == 1 && image.score_type == (sizeof(T) == 8 ? Type::f64 : Type::f32))
        turn(row, 1L, columns, (T*)gradient + at, layout.image_stride, 1L);
      else if (image.abreast)
        for (long p = 0; p < image.pixels; ++p) store(image.score_type, gradient, at + p * layout.pixel_stride, layout.image_stride, images, row + p * columns);
      else if (!stream || !stream_to(gradient, at, row, count))
        store(image.score_type, gradient, at, layout.pixel_stride, count, row);
    }
  }

  LOSSFOLD_INLINE bool stream_to(void* gradient, long at, const T* row, long count) const {
    switch (image.score_type) {
      case Type::f32: return stream_row((float*)gradient + at, row, count);
      case Type::f16: return stream_row((Half*)gradient + at, row, count);
      case Type::bf16: return stream_row((BFloat*)gradient + at, row, count);
      default: return false;
    }
  }

  // Labels and weights of `count` pixels from `start` on, and of the padding after them up to the next row.
  LOSSFOLD_APART void load_targets(long start, long count, long at, BadLabel* bad) {
    int* y = label + at;
    T* w = weight + at;
    const long step = pixel_step();
    if (image.weight) load(image.weight_type, image.weight, start, step, count, w);
    else for (long i = 0; i < count; ++i) w[i] = 1;
    for (long i = count; i < columns; ++i) w[i] = 0, y[i] = 0;
    if (!image.labels) return;
    if (image.label_type == Type::i64) load_labels<long long>(image, start, step, count, y, w, bad);
    else if (image.label_type == Type::i32) load_labels<int>(image, start, step, count, y, w, bad);
    else load_labels<u8>(image, start, step, count, y, w, bad);
    if (image.kept) for (long i = 0; i < count; ++i) kept[at + i] = image.kept[start + i * step];
  }

  // Ask for the next block's row while this one is computed with.
  LOSSFOLD_INLINE void prefetch(long c) const {
    if (!upcoming) return;
    lossfold::prefetch(upcoming + c * upcoming_step, n * size_of(image.score_type));
  }

  // The usual case in one go: m is known when the last row is there.
  LOSSFOLD_INLINE void load_with_max(long c, const T* from) const {
    typedef typename Lanes<T>::Loose Loose;
    for (long i = 0; i < live; i += width) {
      const V z = *(const Loose*)(from + i);
      at(rows, c * n + i) = z;
      at(high, i) = c == 0 ? z : max_keeping_nan_of_second(at(high, i), z);
    }
  }

  // Of few classes, all that a pixel has fits in registers: e_c, their sum and z_y - m while the scores are there.
  LOSSFOLD_INLINE void load_exponentials(const T* from) const {
    typedef typename Lanes<T>::Loose Loose;
    const bool none = weightless();
    V z[few];
    for (long i = 0; i < live; i += width) {
      const V w = at(weight, i);
      V m;
      for (long c = 0; c < image.classes; ++c) {
        z[c] = *(const Loose*)(from + c * image.class_stride + i);
        if (none) z[c] = w == 0 ? V{} : z[c];
        m = c == 0 ? z[0] : max_keeping_nan_of_second(m, z[c]);
      }
      at(label_score, i) = ask(i, [&](long c) { return z[c]; }) - m;
      V sum = V{};
      for (long c = 0; c < image.classes; ++c) {
        const V e = exp_(z[c] - m);
        at(rows, c * n + i) = e;
        sum += e;
      }
      at(inverse, i) = sum;
    }
  }

  // A pixel without weight takes no part: its scores may be infinite or NaN.
  LOSSFOLD_INLINE void blank() const {
    if (!weightless()) return;
    for (long c = 0; c < image.classes; ++c)
      for (long i = 0; i < live; i += width) at(rows, c * n + i) = at(weight, i) == 0 ? V{} : at(rows, c * n + i);
    for (long i = 0; i < live; i += width) at(high, i) = at(weight, i) == 0 ? V{} : at(high, i);
  }

  // Whether the pixels' own classes are found by asking every class.
  LOSSFOLD_INLINE bool asks() const { return sizeof(T) == 4 && image.classes <= few; }
  // A vector of labels.
  LOSSFOLD_INLINE typename Lanes<T>::I labels(long i) const { return *(const typename Lanes<T>::I*)(label + i); }

  // of(c) of each pixel's own class c: a vector.
  template <class Of>
  LOSSFOLD_INLINE V ask(long i, Of of) const {
    const typename Lanes<T>::I y = labels(i);
    V found = of(0);
    for (long c = 1; c < image.classes; ++c) found = y == (typename Lanes<T>::Int)c ? of(c) : found;
    return found;
  }
  LOSSFOLD_INLINE bool weightless() const {
    typename Lanes<T>::I none = {};
    for (long i = 0; i < live; i += width) none |= at(weight, i) == 0;
    return any(none);
  }

  LOSSFOLD_INLINE bool has(Sum kind) const {
    for (int k = 0; k < image.sums; ++k)
      if (image.kinds[k] == kind) return true;
    return false;
  }
};

}  // namespace
}  // namespace lossfold

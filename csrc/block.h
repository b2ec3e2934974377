// One block of the label fold: loading, and what every pixel needs. See simd/lanes.h for the rules of kernel files.
//
// A block is some hundred pixels of one image. Its scores are brought into a row a class in L1, as float (double for
// float64 scores), and everything is done there along pixels:
//   m = max_c z_c, x = z_y - m, e_c = exp(z_c - m), s = sum e_c, p_c = e_c / s, -log p_y = log s - x.
// The unfold does the same again (nothing is kept between the passes) and, with D_c = d loss / d p_c and
// q = d loss / d (-log p_y), writes dz_k = p_k (D_k - sum_j p_j D_j) + q (p_k - [k = y]).

#pragma once

#include "map_row.h"

namespace lossfold {
namespace {

constexpr long most_rows = 8;  // of a block at label resolution
constexpr long few = 8;        // classes: up to so many, asking every class whether it is the label's beats a table of them
constexpr long very_few = 4;   // likewise, of sums in double

// The row of `data` that belongs to a kind, or null.
template <class U>
LOSSFOLD_INLINE U* row_of(const Image& image, Sum kind, U* data) {
  for (int k = 0; k < image.sums; ++k)
    if (image.kinds[k] == kind) return data + k * image.classes;
  return nullptr;
}

// Kinds that are summed at the label; the others run over all classes.
LOSSFOLD_INLINE bool of_map(Sum kind) { return kind == Sum::map_prob || kind == Sum::map_size; }
LOSSFOLD_INLINE bool at_label(Sum kind) { return kind != Sum::prob && kind != Sum::prob_sq && kind != Sum::nll_all && !of_map(kind); }

LOSSFOLD_INLINE bool is_hard(Sum kind) { return kind == Sum::hard_weight || kind == Sum::hard_nll; }

// Pixels a block: the rows of all classes fit in 24 KiB, within [64, 1024] and the image; at label resolution, where each class
// has four short rows besides, in 48 KiB and [128, 1024]. Depends on the shape alone.
template <class T>
LOSSFOLD_INLINE long block_pixels(const Image& image) {
  if (image.abreast) return image.abreast * image.pixels;
  const long image_pixels = image.resized ? (image.grid.columns + 15) / 16 * 16 * most_rows : (image.pixels + 15) / 16 * 16;
  const long least = image.resized ? 128 : 64;
  long n = image.block ? image.block : (image.resized ? 48 : 24) * 1024 / (long)sizeof(T) / image.classes / 64 * 64;
  n = n < least ? least : n > 1024 ? 1024 : n;
  n = n < image_pixels ? n : image_pixels;
  return image.resized && n / 16 % 2 == 0 ? n + 16 : n;
}

// Labels as they come; returns whether all are classes and none is ignored.
template <class S>
LOSSFOLD_INLINE bool copy_labels(const S* __restrict from, long n, long long classes, long long ignore, int* __restrict label) {
  constexpr long width = Lanes<float>::width;
  typedef S Many __attribute__((vector_size(width * sizeof(S)), may_alias, aligned(sizeof(S))));
  typedef Lanes<float>::I Int;
  typedef u32 Unsigned __attribute__((vector_size(LOSSFOLD_VECTOR_BYTES)));
  const bool may_ignore = ignore == (int)ignore;
  Int other = {};
  long i = 0;
  for (; i + width <= n; i += width) {
    const Many from_i = *(const Many*)(from + i);
    const Int y = __builtin_convertvector(from_i, Int);
    other |= (Int)((Unsigned)y >= (u32)classes);
    if (may_ignore) other |= y == (int)ignore;
    if (sizeof(S) == 8) other |= __builtin_convertvector(__builtin_convertvector(y, Many) != from_i, Int);
    *(Lanes<float>::LooseI*)(label + i) = y;
  }
  bool rest = any(other);
  for (; i < n; ++i) {
    rest |= from[i] < 0 || from[i] >= classes || from[i] == ignore;
    label[i] = (int)from[i];
  }
  return !rest;
}

template <class S, class T>
LOSSFOLD_INLINE void load_labels(const Image& image, long start, long step, long n, int* __restrict label, T* __restrict weight, BadLabel* bad) {
  const S* __restrict from = (const S*)image.labels + start;
  const long long ignore = image.ignore_index, classes = image.classes;
  if (step == 1 && copy_labels(from, n, classes, ignore, label)) return;
  bool wrong = false;
  for (long i = 0; i < n; ++i) {
    const long long y = from[i * step];
    const bool ignored = y == ignore, inside = (unsigned long long)y < (unsigned long long)classes;
    wrong |= !ignored && !inside;
    label[i] = !ignored && inside ? (int)y : 0;
    weight[i] = ignored ? 0 : weight[i];
  }
  if (wrong)
    for (long i = 0; i < n; ++i)
      if (from[i * step] != ignore && (from[i * step] < 0 || from[i * step] >= classes)) *bad = {true, from[i * step]};
}

// ---- one block ----

struct Wanted {  // which of p_y, -log p_y and 1 - p_y (which takes the log) are read
  bool p, nll, u;
};

template <class T>
struct Block {
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

  Block(const Image& image_, Arena& arena) : image(image_), n(block_pixels<T>(image_)) {
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
  static constexpr T tiny = sizeof(T) == 8 ? (T)0x1p-1022 : (T)0x1p-126;
  static constexpr T floor = (T)1e-12;

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

  // value(i, sums) adds vectors to N sums over the pixels; cells are where they go, null where nobody asks.
  template <int N, class Value>
  LOSSFOLD_INLINE void add_up(double* const (&cells)[N], Value value) const {
    const long step = image.abreast ? columns : width;
    for (long from = 0; from < step; from += width) {
      V sums[N] = {};
      for (long i = from; i < live; i += step) value(i, sums);
      for (int j = 0; j < N; ++j)
        if (cells[j]) hand_over(cells[j], from, sums[j]);
    }
  }
  // The lanes of a sum are added, or go to an image each.
  LOSSFOLD_APART void hand_over(double* cell, long from, V sum) const {
    if (!image.abreast) {
      *cell += sum_lanes<T>(sum);
      return;
    }
    T lane[width];
    __builtin_memcpy(lane, &sum, sizeof sum);
    const long count = images - from < width ? images - from : width;
    cell += (first_image + from) * image.sums_stride;
    for (long j = 0; j < count; ++j) cell[j * image.sums_stride] += lane[j];
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
  // row[y] of each pixel's label y.
  LOSSFOLD_INLINE void look_up_label(const T* row, T* out) const {
    if (asks())
      for (long i = 0; i < live; i += width) at(out, i) = ask(i, [&](long c) { return V{} + row[c]; });
    else
      for (long i = 0; i < live; ++i) out[i] = row[label[i]];
  }

  LOSSFOLD_INLINE bool weightless() const {
    typename Lanes<T>::I none = {};
    for (long i = 0; i < live; i += width) none |= at(weight, i) == 0;
    return any(none);
  }

  LOSSFOLD_INLINE void gather_label(const T* __restrict from, T* __restrict out) const {
    if (asks()) {
      for (long i = 0; i < live; i += width) at(out, i) = ask(i, [&](long c) { return *(const V*)(from + c * n + i); });
      return;
    }
    const int step = (int)n, *__restrict y = label;
    for (int i = 0; i < (int)live; ++i) out[i] = from[y[i] * step + i];
  }

  LOSSFOLD_INLINE bool has(Sum kind) const {
    for (int k = 0; k < image.sums; ++k)
      if (image.kinds[k] == kind) return true;
    return false;
  }
  LOSSFOLD_INLINE bool has_hard() const { return has(Sum::hard_weight) || has(Sum::hard_nll); }
  LOSSFOLD_INLINE bool has_focal() const { return has(Sum::focal) || has(Sum::focal_weight); }

  LOSSFOLD_INLINE void find_max() const {
    if (maximal) return;
    for (long i = 0; i < live; i += width) at(high, i) = at(rows, i);
    for (long c = 1; c < image.classes; ++c)
      for (long i = 0; i < live; i += width) at(high, i) = max_keeping_nan_of_second(at(high, i), at(rows, c * n + i));
  }

  // What every per-pixel sum needs, from the sum of the e_c (in `inverse`) and the label's score.
  LOSSFOLD_INLINE void finish_softmax(Wanted wanted) const {
    for (long i = 0; i < live; i += width) {
      const V s = at(inverse, i), x = at(label_score, i);
      at(inverse, i) = 1 / s;
      if (wanted.p) at(p, i) = exp_(x) / s;
      if (!wanted.nll) continue;
      const V l = log_(s) - x;
      at(nll, i) = l;
      if (!wanted.u) continue;
      const V q = one_minus_exp_neg(l);
      at(u, i) = q < V{} + tiny ? V{} + tiny : q;
    }
  }

  LOSSFOLD_INLINE void finish_identity() const {
    for (long i = 0; i < live; i += width) {
      const V q = at(label_score, i);
      at(inverse, i) = V{} + 1;
      at(p, i) = q;
      at(nll, i) = -log_(q < V{} + floor ? V{} + floor : q);
      at(u, i) = 1 - q < V{} + tiny ? V{} + tiny : 1 - q;
    }
  }

  LOSSFOLD_INLINE void raise_powers(double less) const {  // powers[k] = u^(gamma_k - less)
    for (int k = 0; k < image.sums; ++k)
      if (image.kinds[k] == Sum::focal || image.kinds[k] == Sum::focal_weight)
        for (long i = 0; i < live; i += width) at(powers, k * n + i) = power(at(u, i), image.gammas[k] - less);
  }

  LOSSFOLD_INLINE V neg_log(V q) const { return -log_(q < V{} + floor ? V{} + floor : q); }

  // rows become e_c (softmax); their sum goes to `inverse`. extra(c, i, x, e) sees every element.
  template <class Extra>
  LOSSFOLD_INLINE void exponentials(Extra extra) const {
    for (long i = 0; i < live; i += width) at(inverse, i) = V{};
    for (long c = 0; c < image.classes; ++c) {
      T* row = rows + c * n;
      // The next block's row is asked for one line at a time, because memory takes few requests at once.
      const char* const next = upcoming ? upcoming + c * upcoming_step : (const char*)row;
      const long size = upcoming ? size_of(image.score_type) : 0;
      extra.begin(c);
      for (long i = 0; i < live; i += width) {
        lossfold::prefetch(next + i * size);
        const V x = at(row, i) - at(high, i), e = exp_(x);
        at(row, i) = e;
        at(inverse, i) += e;
        extra.element(c, i, x, e);
      }
      extra.end(c);
    }
  }

  LOSSFOLD_INLINE void label_minus_max() const {
    gather_label(rows, label_score);
    for (long i = 0; i < live; i += width) at(label_score, i) -= at(high, i);
  }
};

// For exponentials() of which nothing else is wanted.
template <class T>
struct Nothing {
  LOSSFOLD_INLINE void begin(long) {}
  LOSSFOLD_INLINE void element(long, long, typename Lanes<T>::V, typename Lanes<T>::V) {}
  LOSSFOLD_INLINE void end(long) {}
};

// Likewise where the map is read afterwards: its rows are asked for, line by line.
template <class T>
struct AheadOfMap {
  const Block<T>& block;
  const long size;
  const char* row;
  LOSSFOLD_INLINE void begin(long c) { row = block.coming_map(c); }
  LOSSFOLD_INLINE void element(long, long i, typename Lanes<T>::V, typename Lanes<T>::V) {
    if (row) prefetch(row + i * size);
  }
  LOSSFOLD_INLINE void end(long) {}
};

}  // namespace
}  // namespace lossfold

// What the folds' kernels are given and what they offer. Plain data only: it crosses SIMD levels.
#pragma once

namespace lossfold {

constexpr int max_sums = 64;  // of one pass

enum class Type : int { f64, f32, f16, bf16, i64, i32, u8, b8 };  // b8: truth values, of any bits

// A fold's words are listed once: enumerators, and what codes() tells Python, follow from the list.
#define LOSSFOLD_NAME(name) name,

// The sums a fold can be asked for, per class c. w: pixel weight, p: probability, y: label, m: map.
#define LOSSFOLD_SUMS(X) \
  X(weight)         /* sum of w where y = c */                               \
  X(prob)           /* sum of w p_c */                                       \
  X(prob_sq)        /* sum of w p_c^2 */                                     \
  X(prob_at_label)  /* sum of w p_c where y = c */                           \
  X(nll)            /* sum of -w log p_c where y = c */                      \
  X(nll_all)        /* sum of -w log p_c over all counted pixels */          \
  X(focal)          /* sum of -w (1-p_c)^gamma log p_c where y = c */        \
  X(focal_weight)   /* sum of w (1-p_c)^gamma where y = c */                 \
  X(hard_weight)    /* sum of w over the hard pixels where y = c */          \
  X(hard_nll)       /* sum of -w log p_c over the hard pixels where y = c */ \
  X(map_prob)       /* sum of w p_c m_c */                                   \
  X(map_size)       /* sum of w |m_c| */
enum class Sum : int { LOSSFOLD_SUMS(LOSSFOLD_NAME) count };
static_assert((int)Sum::count == 12, "a new kind needs a case in label_sums.h and label_gradient.h");

struct GridShape {  // the scores' grid where it is not the labels': linear interpolation brings scores to the labels
  long planes, rows, columns;                    // of the labels; an image is a volume of one plane
  long score_planes, score_rows, score_columns;  // of the scores
  long plane_stride, row_stride, column_stride;  // of the scores, in elements
  bool align_corners;
};

struct Image {  // one image; strides in elements; labels and weights are contiguous, weight may be null
  const void *scores, *labels, *weight;
  Type score_type, label_type, weight_type;
  long class_stride, pixel_stride;
  long classes, pixels;
  long long ignore_index;
  bool softmax;
  int sums;  // how many rows of kinds and gammas
  const Sum* kinds;
  const double* gammas;
  const void* maps;           // a number for each class and pixel, contiguous, as targets of the scores' shape; may be null
  Type map_type;
  const unsigned char* kept;  // 1 at the hard pixels; null in the fold, which finds them
  int bins;                   // of the histogram of errors; 0 without
  long block;                 // pixels a block; 0: what suits the number of classes
  long abreast;               // 0; or how many small images of `pixels` each lie side by side in a block, their sums kept apart
  long image_stride, sums_stride;  // from one of them to the next: in scores, and in sums
  bool resized;               // whether grid says where scores are; else pixel_stride does
  GridShape grid;
};

struct GradientLayout {  // where the gradient of one image goes
  long class_stride, pixel_stride;
  bool stream;  // larger than the caches: write around them
  long row_stride, column_stride;  // of a resized image; there the gradient is added to what is there
  long image_stride;               // of images side by side
  long plane_stride;               // of a resized volume
  Type type;                       // of a resized image's gradient, else that of the scores
};

// A histogram under construction: for each class the slots of the foreground, then of the background. Integers, so that it
// adds up to the same bits in any order. Packed (weights 0 and 1): a word is count * 2^44 + sum of positions * 2^24, good for
// 2^20 pixels. Otherwise words hold weights, and a second plane of as many words the weighted positions, times 2^24.
struct BinWords {
  static constexpr int spare = 32;  // slots beside the bins: bin 0 is spread over 16 of them; NaN; pixels without weight
  static constexpr int not_a_number = 16, nowhere = 17, count_shift = 44;
  unsigned long long* words;
  bool packed;
};

// What the fold fills: sums [rows, classes]; the histogram; for each pixel -log p_y, its sign bit set if p_y < thresh, and
// NaN with the sign bit where nothing counts (float, or double for double scores).
struct LabelResult {
  double* sums;
  BinWords bins;
  void* hardness;
  double thresh;
};

struct BadLabel {
  bool found = false;
  long long label = 0;
};

// ---- the dense fold: every channel has a target of its own in [0, 1] ----

#define LOSSFOLD_LINKS(X) \
  X(softmax)  \
  X(sigmoid)  \
  X(identity)
enum class Link : int { LOSSFOLD_LINKS(LOSSFOLD_NAME) count };

// The sums it can be asked for, per channel. w: weight, t: target, m: map, p: probability, q: 1 - p, u: p (1-t) + q t,
// ce: -t log p - (1-t) log q.
#define LOSSFOLD_DENSE_SUMS(X) \
  X(weight)        /* sum of w */                  \
  X(target)        /* sum of w t */                \
  X(target_sq)     /* sum of w t^2 */              \
  X(map_size)      /* sum of w |m| */              \
  X(prob)          /* sum of w p */                \
  X(prob_sq)       /* sum of w p^2 */              \
  X(both)          /* sum of w p t */              \
  X(apart)         /* sum of w |p - t| */          \
  X(map_prob)      /* sum of w p m */              \
  X(nll)           /* sum of -w t log p */         \
  X(nll_all)       /* sum of -w log p */           \
  X(nll_not)       /* sum of -w (1-t) log q */     \
  X(nll_not_all)   /* sum of -w log q */           \
  X(focal)         /* sum of w t u^gamma ce */     \
  X(focal_not)     /* sum of w (1-t) u^gamma ce */ \
  X(focal_weight)  /* sum of w u^gamma */
enum class DenseSum : int { LOSSFOLD_DENSE_SUMS(LOSSFOLD_NAME) count };
static_assert((int)DenseSum::count == 16, "a new kind needs a case in dense_sums.h and dense_gradient.h");

// Octaves of 1 + a hinge error: the first ones share the bins that the rest, of one bin each, leave.
constexpr int hinge_octaves = 16, hinge_rest = 112;

struct DenseImage : Image {  // labels, softmax, sums, kinds and gammas of Image stay unused, weight is for pixels
  const void *targets, *element_weight;  // contiguous; element_weight, of the weight's type, may be null
  Type target_type;
  bool integers;                         // of which ignore_index does not count
  Link link;
  bool together;                         // a pixel's channels count together: one weight, one value of the map
  bool hinge;                            // the histogram's errors are those of the scores, else of the probabilities
  int dense_sums;
  const DenseSum* dense_kinds;
  const double* dense_gammas;
};

struct BadTarget {
  bool found = false;
  double target = 0;
};

struct DenseKernels {  // as LabelKernels; map writes a value for each element, for softmax one for each pixel
  long (*workspace)(const DenseImage&);
  void (*fold)(const DenseImage&, long begin, long end, void* work, double* sums, const BinWords& bins, BadTarget* bad);
  void (*unfold)(const DenseImage&, long begin, long end, void* work, const double* grad, const void* slopes, GradientLayout layout,
                 void* grad_scores, double* value, BadTarget* bad);
  double (*count)(const DenseImage&, long begin, long end, void* work, const double* factors, BadTarget* bad);
  void (*map)(const DenseImage&, long begin, long end, void* work, const double* coef, void* out, BadTarget* bad);
};

// All work on the pixels [begin, end): of a resized image whole rows of one plane, and whole images where they lie side by side.
// fold adds into its result and reports a label out of range. unfold writes the gradient of the scores, from the derivatives with respect to the sums and, for each class and bin,
// to the foreground's and the background's errors (float, or double for double scores); into value, where there is one (of each channel in the
// dense fold), it adds the sums of logarithms times these derivatives: of a loss that is linear in them, its value. count returns the sum of w factor
// (the label's, or the channel's). map writes
// sum_k coef[k, .] * (the pixel's share of row k). keep writes the mask of the hard pixels, whose hardness is not below the bound
// (its bits) or marked, and adds them to the hard rows of sums.
struct LabelKernels {
  long (*workspace)(const Image&);  // bytes, 64-aligned by the caller
  void (*fold)(const Image&, long begin, long end, void* work, const LabelResult& result, BadLabel* bad);
  void (*unfold)(const Image&, long begin, long end, void* work, const double* grad, const void* slopes,
                 GradientLayout layout, void* grad_scores, double* value);
  double (*count)(const Image&, long begin, long end, void* work, const double* factors, BadLabel* bad);
  void (*map)(const Image&, long begin, long end, void* work, const double* coef, void* out, BadLabel* bad);
  void (*keep)(const Image&, long begin, long end, void* work, const void* hardness, long long bound, unsigned char* kept, double* sums);
};

extern const LabelKernels label_kernels_baseline;
extern const DenseKernels dense_kernels_baseline;
#if defined(LOSSFOLD_X86_LEVELS)
extern const DenseKernels dense_kernels_v3;
extern const DenseKernels dense_kernels_v4;
extern const LabelKernels label_kernels_v3;
extern const LabelKernels label_kernels_v4;
#endif

}  // namespace lossfold

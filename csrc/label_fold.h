// The label fold: what its kernels are given and what they offer. Plain data only: it crosses SIMD levels.
#pragma once

namespace lossfold {

enum class Type : int { f64, f32, f16, bf16, i64, i32, u8 };

// The sums a fold can be asked for, per class c. w: pixel weight, p: probability, y: label.
enum class Sum : int {
  weight,         // sum of w where y = c
  prob,           // sum of w p_c
  prob_sq,        // sum of w p_c^2
  prob_at_label,  // sum of w p_c where y = c
  nll,            // sum of -w log p_c where y = c
  nll_all,        // sum of -w log p_c over all counted pixels
  focal,          // sum of -w (1-p_c)^gamma log p_c where y = c
  focal_weight,   // sum of w (1-p_c)^gamma where y = c
  count
};

struct LabelImage {  // one image; strides in elements; labels and weights are contiguous, weight may be null
  const void *scores, *labels, *weight;
  Type score_type, label_type, weight_type;
  long class_stride, pixel_stride;
  long classes, pixels;
  long long ignore_index;
  bool softmax;
  int sums;  // how many rows of kinds and gammas
  const Sum* kinds;
  const double* gammas;
};

struct LabelGradient {  // where the gradient of one image goes
  long class_stride, pixel_stride;
  bool stream;  // larger than the caches: write around them
};

struct BadLabel {
  bool found = false;
  long long label = 0;
};

// All work on the pixels [begin, end). fold adds into sums [rows, classes] and reports a label out of range.
// unfold writes the gradient of the scores; map writes sum_k coef[k, .] * (the pixel's share of row k).
struct LabelKernels {
  long (*workspace)(const LabelImage&);  // bytes, 64-aligned by the caller
  void (*fold)(const LabelImage&, long begin, long end, void* work, double* sums, BadLabel* bad);
  void (*unfold)(const LabelImage&, long begin, long end, void* work, const double* grad, LabelGradient layout,
                 void* grad_scores);
  void (*map)(const LabelImage&, long begin, long end, void* work, const double* coef, void* out, BadLabel* bad);
};

extern const LabelKernels label_kernels_baseline;
#if defined(LOSSFOLD_X86_LEVELS)
extern const LabelKernels label_kernels_v3;
extern const LabelKernels label_kernels_v4;
#endif

}  // namespace lossfold

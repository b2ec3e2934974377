// The pair fold: sums over a prediction and a target of the same kind. Plain data only: it crosses SIMD levels.
//
// With d = p - t the sums are those of functions of d at each pixel, of Sobel responses, and of the Laplacian pyramid's
// coefficients; the pyramid is linear, so that of d is the difference of the two.
#pragma once

#include "fold.h"

namespace lossfold {

// w: 1, the value of a map, or 1 where the map is 0. `number` is what the kind takes.
#define LOSSFOLD_PAIR_KINDS(X) \
  X(weight)            /* sum of w */                                                                            \
  X(abs)               /* sum of w |d| */                                                                        \
  X(square)            /* sum of w d^2 */                                                                        \
  X(smooth_abs)        /* sum of w (|d| < beta ? d^2 / 2 beta : |d| - beta/2), beta = number */                  \
  X(charbonnier)       /* sum of w sqrt(d^2 + number) */                                                         \
  X(edge)              /* sum of w (|Sx d| + |Sy d|), S: Sobel, padded by replication (number 0) or zeros (1) */ \
  X(edge_of_pred)      /* sum of w (|Sx p| + |Sy p|) */                                                          \
  X(laplacian)         /* sum of w |c| over the pyramid's level `number` */                                      \
  X(laplacian_weight)  /* sum of w there */                                                                      \
  X(low_pass)          /* sum of w |g| over what is left after `number` levels */                                \
  X(low_pass_weight)   /* sum of w there */                                                                      \
  X(step)              /* sum of w |f - p|, f: the next p of its row (number 0) or column (1), w: that of p */   \
  X(step_sq)           /* sum of w (f - p)^2 */                                                                  \
  X(step_weight)       /* sum of w there */
enum class PairKind : int { LOSSFOLD_PAIR_KINDS(LOSSFOLD_NAME) count };
static_assert((int)PairKind::count == 14, "a new kind needs a place below, and cases in pair_pixels.h and pair_once.h, or pair_steps.h");

inline bool of_pixels(PairKind kind) { return kind < PairKind::edge; }
inline bool of_stencils(PairKind kind) { return kind == PairKind::edge || kind == PairKind::edge_of_pred; }
inline bool of_steps(PairKind kind) { return kind >= PairKind::step; }
inline bool of_level(PairKind kind) { return kind == PairKind::laplacian || kind == PairKind::laplacian_weight; }
inline bool of_rest(PairKind kind) { return kind == PairKind::low_pass || kind == PairKind::low_pass_weight; }

struct PairSum {
  PairKind kind;
  double number;
  int where;  // -1: everywhere; 2m: times map m; 2m + 1: where map m is 0
};

constexpr int most_maps = 64;

struct PairMap {  // one plane of it; strides in elements
  const void* data;
  Type type;
  long row_stride, column_stride;
  bool in_unit;  // its values must lie in [0, 1]
};

struct PairPlane {  // one channel of one image
  const void *pred, *target;
  Type pred_type, target_type;
  long pred_row, pred_column, target_row, target_column;  // strides in elements
  long rows, columns;
  bool sigmoid;  // p = sigmoid(pred), else pred
  int maps, sums;
  const PairMap* map;
  const PairSum* sum;
};

// One level of a plane's pyramid: its image g (float, or double for double predictions; null at level 0, where it is d), and
// the sign of each coefficient, as the halves of even and of odd columns of each row.
struct PairLevel {
  void* image;
  signed char* signs;
  long rows, columns;              // of g
  long even_rows() const { return rows & ~1L; }
  long even_columns() const { return columns & ~1L; }
};

// fold, unfold: the pixels [begin, end) of a plane in units of `tile` columns of a row; sums are added to. unfold writes the
// gradient, the pyramid's part of it by `below` (the derivative of g at level 1, null without a pyramid).
// down: from level `at`, the rows [begin, end) of the next one's image, and the coefficients of the rows they came from.
// rest: what is left at level `at`, by whole rows. up: the derivative of g at level `at` from those of the next (null at the
// last) and from the signs of the level before. once: the sum of one function of d over n elements that lie side by side, and
// factor times its derivatives.
struct PairKernels {
  long (*workspace)(const PairPlane&, long tile);
  void (*fold)(const PairPlane&, long begin, long end, long tile, void* work, double* sums, BadTarget* bad);
  void (*down)(const PairPlane&, const PairLevel& at, int level, const PairLevel& next, long begin, long end, void* work, double* sums);
  void (*rest)(const PairPlane&, const PairLevel& at, int sum, signed char* signs, long begin, long end, void* work, double* sums);
  void (*up)(const PairPlane&, const PairLevel* levels, int level, const double* grad, const signed char* const* rest, long begin,
             long end, void* work);
  void (*unfold)(const PairPlane&, const PairLevel* levels, long begin, long end, long tile, void* work, const double* grad,
                 const signed char* const* rest, GradientLayout layout, void* grad_pred);
  double (*once)(const PairSum&, double factor, Type pred_type, const void* pred, Type target_type, const void* target, long n, void* out, bool stream);
};

extern const PairKernels pair_kernels_baseline;
#if defined(LOSSFOLD_X86_LEVELS)
extern const PairKernels pair_kernels_v3;
extern const PairKernels pair_kernels_v4;
#endif

}  // namespace lossfold

// What the window fold's kernels are given and what they offer. Plain data only: it crosses SIMD levels.
//
// With s = p + t and d = p - t, E a filter by a window of weights that sum to 1, and variances V f = E f^2 - (E f)^2:
//   u = (E d)^2 / L, L = ((E s)^2 + (E d)^2) / 2 + c1     (1 - u compares luminance)
//   v = V d / K,     K = (V s + V d) / 2 + c2             (1 - v compares contrast and structure)
// and 1 - SSIM = u + v - u v: exactly 0 where the images are equal, and no difference of large numbers where they are close.
#pragma once

#include "fold.h"
#include "pair.h"

namespace lossfold {

// The sums it can be asked for, per channel, over all places of the window. w: the place's weight.
#define LOSSFOLD_WINDOW_SUMS(X) \
  X(weight)          /* sum of w */            \
  X(ssim_error)      /* sum of w (1 - SSIM) */ \
  X(contrast_error)  /* sum of w v */
enum class WindowSum : int { LOSSFOLD_WINDOW_SUMS(LOSSFOLD_NAME) count };
constexpr int window_sums = static_cast<int>(WindowSum::count);
constexpr int most_taps = 64;

struct WindowPlane {  // one channel of one image; strides in elements
  const void *pred, *target;
  Type pred_type, target_type;
  long pred_row, pred_column, target_row, target_column;
  long rows, columns;  // of the image with its border; the window has rows - taps + 1 by columns - taps + 1 places
  const void* weight;  // of the places, may be null
  Type weight_type;
  long weight_row, weight_column;
  long border;  // rows and columns of zeros on each side of the image, which are nowhere
  long inset;   // where the weight of the first place stands, in rows and columns
  int taps;
  const double* window;  // symmetric
  double c1, c2;
};

struct WindowTile {
  long row, rows, column, columns;
};

// fold adds to sums[window_sums] what the places of a tile have; unfold writes the gradient of a tile of the prediction, from the
// derivatives with respect to the sums. once writes the gradient of factors[0] * (the sum of w (1 - SSIM)) + factors[1] * (the sum
// over the image of w |d|), and adds to sums[2] what the tile has of both: a place belongs to the tile of the pixel in its middle.
struct WindowKernels {
  long (*workspace)(const WindowPlane&, long columns);  // of the widest tile
  void (*fold)(const WindowPlane&, WindowTile, void* work, double* sums);
  void (*unfold)(const WindowPlane&, WindowTile, void* work, const double* grad, GradientLayout layout, void* grad_pred);
  void (*once)(const WindowPlane&, WindowTile, void* work, const double* factors, GradientLayout layout, void* grad_pred, double* sums);
};

extern const WindowKernels window_kernels_baseline;
#if defined(LOSSFOLD_X86_LEVELS)
extern const WindowKernels window_kernels_v3;
extern const WindowKernels window_kernels_v4;
#endif

}  // namespace lossfold

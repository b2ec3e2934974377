// The dense fold's kernels. Compiled once per SIMD level; LOSSFOLD_LEVEL names the table.

#include "dense_gradient.h"
#include "dense_sums.h"

namespace lossfold {
namespace {

template <class T>
long workspace_of(const DenseImage& image) {
  return Block<T>::bytes(image) + DenseBlock<T>::bytes(image) + DenseDerivatives<T>::bytes(image) + Binning<T>::bytes(image) +
         Grid<T>::bytes(image) + GridGradient<T>::bytes(image) + block_pixels<T>(image) * (long)sizeof(T) + 8 * alignment;
}

bool wide(const DenseImage& image) { return image.score_type == Type::f64; }

long workspace(const DenseImage& image) { return wide(image) ? workspace_of<double>(image) : workspace_of<float>(image); }
void fold_any(const DenseImage& image, long begin, long end, void* work, double* sums, const BinWords& bins, BadTarget* bad) {
  (wide(image) ? fold<double> : fold<float>)(image, begin, end, work, sums, bins, bad);
}
void unfold_any(const DenseImage& image, long begin, long end, void* work, const double* grad, const void* slopes, GradientLayout layout,
                void* grad_scores, double* value, BadTarget* bad) {
  (wide(image) ? unfold<double> : unfold<float>)(image, begin, end, work, grad, slopes, layout, grad_scores, value, bad);
}
double count_any(const DenseImage& image, long begin, long end, void* work, const double* factors, BadTarget* bad) {
  return (wide(image) ? count<double> : count<float>)(image, begin, end, work, factors, bad);
}
void map_any(const DenseImage& image, long begin, long end, void* work, const double* coef, void* out, BadTarget* bad) {
  (wide(image) ? map<double> : map<float>)(image, begin, end, work, coef, out, bad);
}

}  // namespace

extern const DenseKernels LOSSFOLD_LEVEL = {workspace, fold_any, unfold_any, count_any, map_any};

}  // namespace lossfold

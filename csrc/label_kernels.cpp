// The label fold's kernels. Compiled once per SIMD level; LOSSFOLD_LEVEL names the table.

#include "fold.h"
#include "label_gradient.h"
#include "label_sums.h"

namespace lossfold {
namespace {

template <class T>
long workspace_of(const Image& image) {
  return Block<T>::bytes(image) + LabelTable<T>::bytes(image) + Derivatives<T>::bytes(image) + Binning<T>::bytes(image) +
         Grid<T>::bytes(image) + GridGradient<T>::bytes(image) + 8 * alignment;
}

long workspace(const Image& image) {
  return image.score_type == Type::f64 ? workspace_of<double>(image) : workspace_of<float>(image);
}
void fold_any(const Image& image, long begin, long end, void* work, const LabelResult& result, BadLabel* bad) {
  image.score_type == Type::f64 ? fold<double>(image, begin, end, work, result, bad) : fold<float>(image, begin, end, work, result, bad);
}
void unfold_any(const Image& image, long begin, long end, void* work, const double* grad, const void* slopes,
                GradientLayout layout, void* grad_scores, double* value) {
  (image.score_type == Type::f64 ? unfold<double> : unfold<float>)(image, begin, end, work, grad, slopes, layout, grad_scores, value);
}
double count_any(const Image& image, long begin, long end, void* work, const double* factors, BadLabel* bad) {
  return (image.score_type == Type::f64 ? count<double> : count<float>)(image, begin, end, work, factors, bad);
}
void map_any(const Image& image, long begin, long end, void* work, const double* coef, void* out, BadLabel* bad) {
  image.score_type == Type::f64 ? map<double>(image, begin, end, work, coef, out, bad)
                                : map<float>(image, begin, end, work, coef, out, bad);
}

void keep_any(const Image& image, long begin, long end, void* work, const void* hardness, long long bound,
              unsigned char* kept, double* sums) {
  image.score_type == Type::f64 ? keep<double>(image, begin, end, work, hardness, bound, kept, sums)
                                : keep<float>(image, begin, end, work, hardness, bound, kept, sums);
}

}  // namespace

extern const LabelKernels LOSSFOLD_LEVEL = {workspace, fold_any, unfold_any, count_any, map_any, keep_any};

}  // namespace lossfold

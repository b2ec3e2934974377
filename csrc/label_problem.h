// One call of the label fold: scores [B, C, *S], integer labels and weights [B, *S].
#pragma once

#include "problem.h"

namespace lossfold {
namespace {

struct LabelOptions {
  int64_t ignore_index;
  bool softmax, align_corners;
  std::vector<int64_t> kinds;
  std::vector<double> gammas;
  int64_t bins;
  bool may_join;
};

struct LabelProblem : Problem {
  Tensor labels;
  std::optional<Tensor> weight, maps;
  std::vector<Sum> kinds;
  std::vector<double> gammas;
  const uint8_t* kept = nullptr;

  LabelProblem(const Tensor& scores_, const Tensor& labels_, const std::optional<Tensor>& weight_, const std::optional<Tensor>& maps_,
               const LabelOptions& options)
      : Problem(scores_, space_of(labels_, 1), options.align_corners, false, options.may_join), labels(torch::stable::contiguous(labels_)), gammas(options.gammas) {
    if (weight_) weight = torch::stable::contiguous(*weight_);
    STD_TORCH_CHECK(options.kinds.size() == gammas.size() && gammas.size() <= max_sums, "lossfold: malformed label fold");
    for (int64_t kind : options.kinds) {
      STD_TORCH_CHECK(kind >= 0 && kind < static_cast<int64_t>(Sum::count), "lossfold: unknown sum ", kind);
      kinds.push_back(static_cast<Sum>(kind));
    }
    STD_TORCH_CHECK(labels.numel() == images * pixels && (!weight || weight->numel() == labels.numel()),
                    "lossfold: sizes of scores, labels and weight differ");
    maps = take_maps(maps_, std::any_of(kinds.begin(), kinds.end(), of_map));
    image.label_type = type_of(labels, "labels");
    STD_TORCH_CHECK(image.label_type >= Type::i64, "lossfold: the dtype of the labels");
    if (weight) image.weight_type = type_of(*weight, "weight");
    image.ignore_index = options.ignore_index;
    image.softmax = options.softmax;
    image.sums = static_cast<int>(kinds.size());
    image.kinds = kinds.data();
    image.gammas = gammas.data();
    image.bins = static_cast<int>(options.bins);
    image.sums_stride = image.sums * image.classes;
  }

  static bool of_map(Sum kind) { return kind == Sum::map_prob || kind == Sum::map_size; }

  // The same, of each image apart.
  LabelProblem apart() const {
    LabelProblem other = *this;
    other.image.abreast = other.joined = 0;
    other.image.kinds = other.kinds.data();
    other.image.gammas = other.gammas.data();
    return other;
  }

  bool has_hard() const {
    return std::any_of(kinds.begin(), kinds.end(), [](Sum kind) { return kind == Sum::hard_weight || kind == Sum::hard_nll; });
  }
  void read_kept(const Tensor* mask) {
    STD_TORCH_CHECK(!has_hard() || (mask->numel() == images * pixels && mask->scalar_type() == ScalarType::Byte && mask->is_contiguous()),
                    "lossfold: malformed mask of hard pixels");
    if (has_hard()) kept = static_cast<const uint8_t*>(mask->const_data_ptr());
  }

  Image at(int64_t b) const {
    Image one = image;
    one.scores = offset(scores, start_of(scores, b));
    one.labels = offset(labels, b * pixels);
    one.weight = weight ? offset(*weight, b * pixels) : nullptr;
    one.maps = maps ? offset(*maps, b * channels * pixels) : nullptr;
    one.kept = kept ? kept + b * pixels : nullptr;
    return one;
  }
};

}  // namespace
}  // namespace lossfold

// What the kernels of distance transforms are given and what they offer. Plain data only: it crosses SIMD levels.
//
// Of a volume of codes, the distance from every pixel of one code to the nearest of another one (inside), and from every other
// pixel to the nearest of it (outside), exactly: first along the columns of each slice, in steps; then along its rows, and along
// the lines through all slices, as distance_line.h says.
#pragma once

#include "fold.h"

namespace lossfold {

struct DistanceVolume {
  const void* codes;  // [slices, rows, columns], u8 or u16
  bool wide_codes;
  long slices, rows, columns;
  int wanted, nowhere;     // the code whose distances are asked for; that of pixels which are no source (-1: none)
  double step[3];          // from slice to slice, row to row, column to column
  bool outside;            // whether the result is signed: outside less `outer`, and less inside plus `inner`
  double inner, outer;
  bool squared;            // the squares instead, not signed
  bool wide;               // whether values are double, else float
  bool even;               // whether all steps are step[2] and float has all squares, counted in steps: then they are floats
  const double* halves;    // 1 / 2k for k up to `known`
  long known;
};

// Each step reads what that before left in the cells, which end as the result. `others` are cells too, for what lies outside.
struct DistanceKernels {
  long (*workspace)(const DistanceVolume&);
  void (*columns)(const DistanceVolume&, long slice, long column, long count, void* cells, void* others);
  void (*rows)(const DistanceVolume&, long slice, long row, long count, void* work, void* cells, void* others);
  void (*lines)(const DistanceVolume&, long row, long column, long count, void* work, void* cells, void* others);
};
constexpr long most_lines = 16;  // that are taken together

extern const DistanceKernels distance_kernels_baseline;
#if defined(LOSSFOLD_X86_LEVELS)
extern const DistanceKernels distance_kernels_v3;
extern const DistanceKernels distance_kernels_v4;
#endif

}  // namespace lossfold

// Named tensors in one file, in the format of github.com/huggingface/safetensors: 8 bytes little-endian length of the
// header, the header (JSON: name -> dtype, shape, offsets), the tensors' bytes. Python's `safetensors` reads what is
// written here and the other way round; nothing in such a file is ever executed. Layout: docs/checkpoint_format.md.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/storage.h"
#include "base/tensor_view.h"

namespace dtrain {

using SafetensorsMetadata = std::map<std::string, std::string>;

// Where a tensor's bytes lie: [begin, end) of the file.
struct SafetensorsEntry {
  TensorInfo info;
  uint64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in order of name
  SafetensorsMetadata metadata;
};

struct SafetensorsContents {
  std::vector<HostTensor> tensors;  // in order of name
  SafetensorsMetadata metadata;
};

// Appends a whole safetensors file to `file` (new and empty); neither syncs nor closes. The bytes depend on the set of
// tensors alone, not on their order: they lie largest element first, then by name, so that each is aligned to its
// element size, and the first begins at a multiple of 64. kInvalidArgument, before anything is written, if a
// name stands twice, is reserved or is not UTF-8, or if a view's bytes do not fit its shape.
Status WriteSafetensors(WritableFile& file, std::span<const TensorView> tensors, const SafetensorsMetadata& metadata);

// Names, shapes and places of a file of anybody's making; reads the header alone. Checked: header length (at most
// 100 MB), JSON, types, shapes (no negative size, no overflow), offsets (each tensor exactly its shape's bytes, none
// overlapping, no gap, ending where the file ends). kDataLoss says what does not hold; kUnimplemented names a
// dtype that dtrain does not have (F8, I16, ...).
StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const ReadableFile& file);

// The whole file. Errors as above; kDataLoss too for a BOOL that is neither 0 nor 1.
StatusOr<SafetensorsContents> ReadSafetensors(const ReadableFile& file);

}  // namespace dtrain

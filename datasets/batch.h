// Rows of a data set, gathered into dense memory that a tensor can be laid over without a copy. A batch is reused: its
// memory grows to the largest batch it ever held and is then never allocated again.
// One thread at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/tensor_view.h"
#include "base/view.h"

namespace dtrain {

struct DatasetSchema;

class Batch {
 public:
  // Makes room for `rows` samples of `schema`; the bytes are whatever they were. Only a data set's Gather calls this.
  void Resize(const DatasetSchema& schema, int64_t rows);

  int64_t size() const { return rows_; }
  // "input" of shape (rows, the schema's input_shape...) and "target" of shape (rows).
  const TensorInfo& input_info() const { return input_info_; }
  const TensorInfo& target_info() const { return target_info_; }
  // Dense, row-major, on 64 bytes.
  std::byte* input_data() { return inputs_.data.get(); }
  const std::byte* input_data() const { return inputs_.data.get(); }
  std::byte* target_data() { return targets_.data.get(); }
  const std::byte* target_data() const { return targets_.data.get(); }

  // All inputs or targets as elements of T, whose size must be the schema's (float for F32, int64_t for I64).
  template <typename T>
  std::span<T> inputs() {
    return {Typed<T>(inputs_, input_info_), static_cast<size_t>(input_info_.elements())};
  }
  template <typename T>
  std::span<const T> inputs() const {
    return {Typed<T>(inputs_, input_info_), static_cast<size_t>(input_info_.elements())};
  }
  template <typename T>
  std::span<T> targets() {
    return {Typed<T>(targets_, target_info_), static_cast<size_t>(target_info_.elements())};
  }
  template <typename T>
  std::span<const T> targets() const {
    return {Typed<T>(targets_, target_info_), static_cast<size_t>(target_info_.elements())};
  }

  // Where the rows come from, filled in by the loader.
  Step step = 0;
  int64_t leaf = 0;
  int64_t epoch = 0;
  int64_t first_position = 0;    // of the epoch's order
  std::vector<int64_t> indices;  // of the rows, in the loader's data set

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  struct Buffer {
    std::unique_ptr<std::byte[], Free> data;
    int64_t capacity_bytes = 0;

    void Reserve(int64_t bytes);
  };

  template <typename T>
  static T* Typed(const Buffer& buffer, const TensorInfo& info) {
    DTRAIN_CHECK(ElementBytes(info.dtype) == static_cast<int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(buffer.data.get());
  }

  int64_t rows_ = 0;
  TensorInfo input_info_ = {.name = "input"}, target_info_ = {.name = "target"};
  Buffer inputs_, targets_;
};

}  // namespace dtrain

#include "trainer/report/tensorboard.h"

#include "base/codec.h"
#include "base/crc32c.h"
#include "base/text.h"

namespace dtrain {
namespace {

constexpr std::string_view kFileVersion = "brain.Event:2";

// Fields of a protobuf message: a key (number * 8 + wire type), then the value.
class ProtoMessage {
 public:
  void Double(int field, double value) {
    Key(field, 1);
    Little(value);
  }
  void Float(int field, float value) {
    Key(field, 5);
    Little(value);
  }
  void Int(int field, int64_t value) {
    Key(field, 0);
    Varint(static_cast<uint64_t>(value));
  }
  void Bytes(int field, std::string_view value) {
    Key(field, 2);
    Varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Key(int field, int wire_type) { Varint(static_cast<uint64_t>(field) * 8 + static_cast<uint64_t>(wire_type)); }
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  template <typename T>
  void Little(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string bytes_;
};

std::string Event(double wall_seconds, Step step, int field, std::string_view what) {
  ProtoMessage event;
  event.Double(1, wall_seconds);
  if (step != 0) event.Int(2, step);  // protobuf leaves a zero out
  event.Bytes(field, what);
  return event.bytes();
}

}  // namespace

uint32_t MaskedCrc32c(std::span<const std::byte> bytes) {
  const uint32_t crc = Crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

std::string TfRecord(std::string_view data) {
  Encoder length;
  length.U64(data.size());
  Encoder head = length;
  head.U32(MaskedCrc32c(length.bytes()));
  Encoder tail;
  tail.U32(MaskedCrc32c(std::as_bytes(std::span(data))));
  const auto text = [](const Encoder& encoder) {
    return std::string_view(reinterpret_cast<const char*>(encoder.bytes().data()), encoder.bytes().size());
  };
  return Cat(text(head), data, text(tail));
}

std::string EventFileName(double wall_seconds, std::string_view host, int64_t process_id) {
  std::string name(host);
  for (char& c : name) {
    if (c == '/') c = '_';
  }
  return Cat("events.out.tfevents.", static_cast<int64_t>(wall_seconds), ".", name, ".", process_id);
}

StatusOr<TensorboardWriter> TensorboardWriter::Create(Storage& storage, const std::string& path, double wall_seconds, Step first_step) {
  ASSIGN_OR_RETURN(auto file, storage.Create(path));
  TensorboardWriter writer(std::move(file));
  ProtoMessage session;
  session.Int(1, 1);
  RETURN_IF_ERROR(writer.Append(TfRecord(Event(wall_seconds, 0, 3, kFileVersion))));
  RETURN_IF_ERROR(writer.Append(TfRecord(Event(wall_seconds, first_step, 7, session.bytes()))));
  return writer;
}

Status TensorboardWriter::Write(double wall_seconds, Step step, const Scalars& scalars) {
  ProtoMessage summary;
  for (const auto& [tag, value] : scalars) {
    ProtoMessage entry;
    entry.Bytes(1, tag);
    entry.Float(2, static_cast<float>(value));
    summary.Bytes(1, entry.bytes());
  }
  return Append(TfRecord(Event(wall_seconds, step, 5, summary.bytes())));
}

Status TensorboardWriter::Append(std::string_view record) {
  if (failure_.ok()) failure_ = file_->Append(std::as_bytes(std::span(record)));
  return failure_;
}

}  // namespace dtrain

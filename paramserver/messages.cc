#include "paramserver/messages.h"

#include <algorithm>
#include <concepts>
#include <limits>
#include <type_traits>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "base/wire.h"
#include "paramserver/limits.h"

namespace dtrain::ps {
namespace {

constexpr int64_t kNumberMax = std::numeric_limits<int64_t>::max();
constexpr size_t kHeadAlign = 16;
constexpr int kUnitLevelMax = 16;  // 65,536 leaves
constexpr uint64_t kUnitIndexBits = 48;

class Writer {
 public:
  void Flag(bool flag) { to_.U8(flag ? 1 : 0); }
  template <typename T>
  void Number(const T& number, int64_t min, int64_t max) {
    const auto value = static_cast<int64_t>(number);
    DTRAIN_CHECK(min <= value && value <= max);
    to_.I64(value);
  }
  void Bits(uint64_t number) { to_.U64(number); }
  void Real(double number) { to_.F64(number); }
  void Text(const std::string& text) { to_.String(std::string_view(text).substr(0, kTextBytesMax)); }
  void TableOf(const Table& table) { EncodeTable(table, to_); }
  template <typename T, typename Each>
  void List(const std::vector<T>& list, int max, const Each& each) {
    DTRAIN_CHECK(list.size() <= static_cast<size_t>(max));
    to_.U32(static_cast<uint32_t>(list.size()));
    for (const T& item : list) each(item);
  }
  Encoder& to() { return to_; }

 private:
  Encoder to_;
};

// Reads what a Writer wrote and remembers whether a field was not as it should be.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : from_(bytes) {}
  void Flag(bool& flag) {
    const uint8_t value = from_.U8();
    Demand(value <= 1);
    flag = value == 1;
  }
  template <typename T>
  void Number(T& number, int64_t min, int64_t max) {
    const int64_t value = from_.I64();
    Demand(min <= value && value <= max);
    number = static_cast<T>(value);
  }
  void Bits(uint64_t& number) { number = from_.U64(); }
  void Real(double& number) { number = from_.F64(); }
  void Text(std::string& text) {
    text = from_.String();
    Demand(text.size() <= kTextBytesMax);
  }
  void TableOf(Table& table) { Demand(DecodeTable(from_, &table)); }
  template <typename T, typename Each>
  void List(std::vector<T>& list, int max, const Each& each) {
    const uint32_t count = from_.U32();
    Demand(count <= static_cast<uint32_t>(max));
    for (uint32_t i = 0; i < count && ok_ && from_.ok(); ++i) each(list.emplace_back());
  }
  bool ok() const { return ok_ && from_.ok(); }
  Decoder& from() { return from_; }

 private:
  void Demand(bool condition) { ok_ = ok_ && condition; }
  Decoder from_;
  bool ok_ = true;
};

template <typename Io, typename Unit>
void UnitFields(Io& io, Unit& unit) {
  io.Number(unit.level, 0, kUnitLevelMax);
  io.Number(unit.index, 0, kLeavesMax - 1);
}

// The fields of every message in order, for Writer and Reader alike. What a frame carries stands there alone.
template <typename Io, typename M>
void Fields(Io& io, M& m) {
  using T = std::remove_const_t<M>;
  if constexpr (std::same_as<T, Register> || std::same_as<T, WrongTable>) {
    io.TableOf(m.table);
  } else if constexpr (std::same_as<T, Push>) {
    io.Number(m.work.epoch, 0, kNumberMax);
    io.Number(m.read_version, 0, kNumberMax);
    io.Real(m.scale);
  } else if constexpr (std::same_as<T, Finish>) {
    io.Number(m.step, 0, kNumberMax);
    UnitFields(io, m.unit);
    io.Real(m.weight);
    io.Real(m.loss_sum);
    io.Flag(m.finite);
    io.Flag(m.want_parameters);
  } else if constexpr (std::same_as<T, Pull>) {
    io.Number(m.offset, 0, kElementsMax);
    io.Number(m.min_version, 0, kNumberMax);
    io.Number(m.max_version, 0, kNumberMax);
  } else if constexpr (std::same_as<T, Close>) {
    io.Number(m.step, 0, kNumberMax);
    io.Real(m.square_sum);
  } else if constexpr (std::same_as<T, Claim>) {
    io.Number(m.step, 0, kNumberMax);
    io.Real(m.weight);
  } else if constexpr (std::same_as<T, Registered>) {
    io.Flag(m.ready);
    io.Number(m.version, -1, kNumberMax);
  } else if constexpr (std::same_as<T, InitialTaken> || std::same_as<T, PullLater>) {
    io.Number(m.offset, 0, kElementsMax);
  } else if constexpr (std::same_as<T, PushAnswer>) {
    io.Number(m.work.epoch, 0, kNumberMax);
    io.Number(m.work.step, 0, kNumberMax);
    UnitFields(io, m.work.unit);
    io.Number(m.offset, 0, kElementsMax);
    io.Number(m.outcome, 1, 5);
    io.Number(m.version, -1, kNumberMax);
  } else if constexpr (std::same_as<T, Waiting>) {
    io.Number(m.step, 0, kNumberMax);
  } else if constexpr (std::same_as<T, Sums>) {
    io.Number(m.step, 0, kNumberMax);
    io.List(m.parts, kSumPartsMax, [&](auto& part) {
      io.Number(part.level, 0, 40);
      io.Number(part.index, 0, kElementsMax);
      io.Real(part.sum);
    });
  } else if constexpr (std::same_as<T, Closed>) {
    io.Number(m.step, 0, kNumberMax);
    io.Number(m.version, 0, kNumberMax);
    io.Flag(m.known);
    io.Flag(m.applied);
    io.Real(m.weight);
    io.Real(m.loss_sum);
    io.Real(m.norm);
    io.Flag(m.has_square_sum);
    io.Real(m.square_sum);
  } else if constexpr (std::same_as<T, Parameters>) {
    io.Number(m.version, 0, kNumberMax);
  } else if constexpr (std::same_as<T, Passed>) {
    io.Number(m.offset, 0, kElementsMax);
    io.Number(m.version, 0, kNumberMax);
  } else if constexpr (std::same_as<T, Granted>) {
    io.Number(m.step, 0, kNumberMax);
    io.Number(m.slot, -1, kLeavesMax - 1);
  } else if constexpr (std::same_as<T, Refused>) {
    io.Number(m.code, 1, 16);
    io.Text(m.why);
    io.Number(m.kind, 0, static_cast<int64_t>(std::variant_size_v<Body>) - 1);
    io.Number(m.step, 0, kNumberMax);
    io.Number(m.offset, 0, kElementsMax);
  } else if constexpr (std::same_as<T, OpenView>) {
    io.List(m.members, kWorkersMax, [&](auto& member) {
      io.Number(member.worker, 0, kWorkersMax - 1);
      io.Bits(member.incarnation);
    });
  } else if constexpr (std::same_as<T, ViewTaken>) {
    io.Number(m.version, -1, kNumberMax);
  } else if constexpr (std::same_as<T, WrongView>) {
    io.Number(m.sent_in, 0, kNumberMax);
  } else {
    static_assert(std::same_as<T, Initial>);
  }
}

template <typename Io, typename S>
void SenderFields(Io& io, S& sender) {
  io.Bits(sender.job);
  io.Number(sender.view, 0, kNumberMax);
  io.Number(sender.worker, kNoWorker, kWorkersMax - 1);
  io.Bits(sender.incarnation);
  io.Number(sender.table, 0, std::numeric_limits<uint32_t>::max());
}

// A body of kind number `kind`, empty.
template <size_t i = 0>
bool Make(size_t kind, Body& body) {
  if constexpr (i < std::variant_size_v<Body>) {
    if (kind != i) return Make<i + 1>(kind, body);
    body.emplace<i>();
    return true;
  } else {
    return false;
  }
}

FrameKind FrameKindOf(const Body& body) { return std::holds_alternative<Push>(body) ? FrameKind::kPush : FrameKind::kPull; }

FrameHeader FrameOf(const Message& message) {
  FrameHeader frame{.kind = FrameKindOf(message.body), .job = message.sender.job, .view = message.sender.view};
  frame.payload_bytes = static_cast<uint32_t>(message.elements.size_bytes());
  if (const auto* push = std::get_if<Push>(&message.body)) {
    frame.step = push->work.step;
    frame.part = static_cast<uint64_t>(push->work.unit.level) << kUnitIndexBits | static_cast<uint64_t>(push->work.unit.index);
    frame.offset = push->offset;
  } else if (const auto* parameters = std::get_if<Parameters>(&message.body)) {
    frame.offset = parameters->offset;
  } else {
    frame.offset = std::get<Initial>(message.body).offset;
  }
  return frame;
}

Status Damaged(std::string_view what) { return DataLoss("decode a parameter server message: ", what); }

// Puts what `frame` says into the message; not OK if it contradicts the head.
Status TakeFrame(const Frame& frame, Message& message) {
  const FrameHeader& header = frame.header;
  if (header.kind != FrameKindOf(message.body) || header.job != message.sender.job || header.view != message.sender.view ||
      header.dtype != DType::kF32 || header.exchange != 0 || header.offset > kElementsMax ||
      static_cast<int64_t>(header.payload_bytes) > kChunkBytesMax + kBlockElements * static_cast<int64_t>(sizeof(float))) {
    return Damaged(Cat("the frame behind a ", NameOf(message), " does not fit it"));
  }
  const uint64_t level = header.part >> kUnitIndexBits, index = header.part & ((uint64_t{1} << kUnitIndexBits) - 1);
  if (auto* push = std::get_if<Push>(&message.body)) {
    if (level > kUnitLevelMax || index >= kLeavesMax) return Damaged(Cat("sub-tree of level ", level, " and index ", index));
    push->work.step = header.step;
    push->work.unit = {static_cast<int>(level), static_cast<int64_t>(index)};
    push->offset = header.offset;
  } else {
    if (header.step != 0 || header.part != 0) return Damaged(Cat("a ", NameOf(message), " that names a step"));
    if (auto* parameters = std::get_if<Parameters>(&message.body)) {
      parameters->offset = header.offset;
    } else {
      std::get<Initial>(message.body).offset = header.offset;
    }
  }
  DTRAIN_CHECK(reinterpret_cast<uintptr_t>(frame.payload.data()) % alignof(float) == 0);
  message.elements = {reinterpret_cast<const float*>(frame.payload.data()), frame.payload.size() / sizeof(float)};
  return OkStatus();
}

}  // namespace

std::string_view NameOf(const Message& message) {
  constexpr std::string_view kNames[] = {"Register",   "Initial",    "Push",         "Finish",     "Pull",    "Close",
                                         "Claim",      "Registered", "InitialTaken", "PushAnswer", "Waiting", "Sums",
                                         "Closed",     "Parameters", "PullLater",    "Passed",     "Granted", "WrongView",
                                         "WrongTable", "Refused",    "OpenView",     "ViewTaken"};
  static_assert(std::size(kNames) == std::variant_size_v<Body>);
  return kNames[message.body.index()];
}

Refused RefusalOf(const Message& message, const Status& status) {
  Refused refused{static_cast<int32_t>(status.code()), dtrain::Message(status), static_cast<int32_t>(message.body.index())};
  refused.why.resize(std::min(refused.why.size(), kTextBytesMax));
  std::visit(
      [&](const auto& m) {
        if constexpr (requires { m.work.step; }) refused.step = m.work.step;
        if constexpr (requires { m.step; }) refused.step = m.step;
        if constexpr (requires { m.offset; }) refused.offset = m.offset;
      },
      message.body);
  return refused;
}

bool CarriesElements(const Body& body) {
  return std::holds_alternative<Push>(body) || std::holds_alternative<Parameters>(body) || std::holds_alternative<Initial>(body);
}

std::vector<std::byte> EncodeHead(const Message& message) {
  Writer writer;
  writer.to().U16(kMessageVersion);
  writer.to().U8(static_cast<uint8_t>(message.body.index()));
  writer.to().U8(0);
  writer.to().U32(0);  // where the head's size goes
  SenderFields(writer, message.sender);
  std::visit([&](const auto& m) { Fields(writer, m); }, message.body);
  while ((writer.to().bytes().size() + 4) % kHeadAlign != 0) writer.to().U8(0);
  std::vector<std::byte> head = writer.to().Take();
  const auto size = static_cast<uint32_t>(head.size() + 4);
  DTRAIN_CHECK(size <= kHeadBytesMax);
  for (int i = 0; i < 4; ++i) head[4 + i] = static_cast<std::byte>(size >> (8 * i));
  Encoder crc;
  crc.U32(Crc32c(head));
  head.insert(head.end(), crc.bytes().begin(), crc.bytes().end());
  if (CarriesElements(message.body)) {
    const auto frame = EncodeFrameHeader(FrameOf(message), std::as_bytes(message.elements));
    head.insert(head.end(), frame.begin(), frame.end());
  } else {
    DTRAIN_CHECK(message.elements.empty());
  }
  return head;
}

std::vector<std::byte> Encode(const Message& message) {
  std::vector<std::byte> bytes = EncodeHead(message);
  const auto elements = std::as_bytes(message.elements);
  bytes.insert(bytes.end(), elements.begin(), elements.end());
  return bytes;
}

StatusOr<Message> Decode(std::span<const std::byte> bytes) {
  constexpr size_t kFixedBytes = 8;
  if (bytes.size() < kFixedBytes) return Damaged(Cat(bytes.size(), " bytes; expected ", kFixedBytes, " at least"));
  Decoder fixed(bytes.first(kFixedBytes));
  const uint16_t version = fixed.U16();
  const uint8_t kind = fixed.U8(), zero = fixed.U8();
  const uint32_t head_bytes = fixed.U32();
  if (head_bytes < kFixedBytes + 4 || head_bytes % kHeadAlign != 0 || head_bytes > bytes.size() || head_bytes > kHeadBytesMax) {
    return Damaged(Cat("a head of ", head_bytes, " bytes in ", bytes.size()));
  }
  Decoder tail(bytes.subspan(head_bytes - 4, 4));
  if (Crc32c(bytes.first(head_bytes - 4)) != tail.U32()) return Damaged("the head's checksum does not match: it was damaged on its way");
  if (version != kMessageVersion) {
    return WithHint(Unimplemented("decode a parameter server message: found version ", version, ", expected ", kMessageVersion),
                    "run the same build of dtrain on every host");
  }
  Message message;
  if (zero != 0 || !Make(kind, message.body)) return Damaged(Cat("kind ", int{kind}, "; expected less than ", std::variant_size_v<Body>));
  Reader reader(bytes.subspan(kFixedBytes, head_bytes - kFixedBytes - 4));
  SenderFields(reader, message.sender);
  std::visit([&](auto& m) { Fields(reader, m); }, message.body);
  // Behind the fields there are zeros, fewer than would make another multiple.
  int padding = 0;
  bool zeros = true;
  while (reader.ok() && !reader.from().Done() && padding < static_cast<int>(kHeadAlign)) {
    zeros = zeros && reader.from().U8() == 0;
    ++padding;
  }
  if (!reader.ok() || !reader.from().Done() || !zeros || padding >= static_cast<int>(kHeadAlign)) {
    return Damaged(Cat("a ", NameOf(message), " has another length, or a field outside its range"));
  }
  if (CarriesElements(message.body)) {
    ASSIGN_OR_RETURN(const Frame frame, ParseFrame(bytes.subspan(head_bytes)));
    RETURN_IF_ERROR(TakeFrame(frame, message));
  } else if (bytes.size() != head_bytes) {
    return Damaged(Cat(bytes.size() - head_bytes, " bytes behind a ", NameOf(message)));
  }
  return message;
}

}  // namespace dtrain::ps

#include "cluster/messages.h"

#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/codec.h"

namespace dtrain {
namespace {

constexpr size_t kNameBytesMax = 256;
constexpr size_t kTagBytesMax = 256;
constexpr size_t kDescriptionBytesMax = 1 << 20;
constexpr int64_t kNumberMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kDeadlineMax = Duration(std::chrono::hours(24)).count();

// Writes fields. What is too long for its limit is our own mistake, except for texts for people: those are cut.
class Writer {
 public:
  void Flag(bool flag) { to_.U8(flag ? 1 : 0); }
  template <size_t count>
  void Array(const std::array<std::byte, count>& bytes) {
    for (const std::byte byte : bytes) to_.U8(std::to_integer<uint8_t>(byte));
  }
  template <typename T>
  void Number(const T& number, int64_t min, int64_t max) {
    const auto value = static_cast<int64_t>(number);
    DTRAIN_CHECK(min <= value && value <= max);
    to_.I64(value);
  }
  void Counter(uint64_t number) { to_.U64(number); }
  void Span(Duration span) { Number(span.count(), 1, kDeadlineMax); }
  void Exact(const std::string& text, size_t bytes_max) {
    DTRAIN_CHECK(text.size() <= bytes_max);
    to_.String(text);
  }
  void Text(const std::string& text, size_t bytes_max) { to_.String(std::string_view(text).substr(0, bytes_max)); }
  void Parts(const std::vector<std::string>& parts) {
    to_.U32(static_cast<uint32_t>(parts.size()));
    for (const std::string& part : parts) Exact(part, kGatherPartBytesMax);
  }
  Encoder& to() { return to_; }

 private:
  Encoder to_;
};

// Reads what a Writer wrote and remembers the first field that was not as it should be.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : from_(bytes) {}
  void Flag(bool& flag) {
    const uint8_t value = from_.U8();
    Demand(value <= 1);
    flag = value == 1;
  }
  template <size_t count>
  void Array(std::array<std::byte, count>& bytes) {
    for (std::byte& byte : bytes) byte = std::byte{from_.U8()};
  }
  template <typename T>
  void Number(T& number, int64_t min, int64_t max) {
    const int64_t value = from_.I64();
    Demand(min <= value && value <= max);
    number = static_cast<T>(value);
  }
  void Counter(uint64_t& number) { number = from_.U64(); }
  void Span(Duration& span) {
    int64_t count = 0;
    Number(count, 1, kDeadlineMax);
    span = Duration(count);
  }
  void Exact(std::string& text, size_t bytes_max) {
    text = from_.String();
    Demand(text.size() <= bytes_max);
  }
  void Text(std::string& text, size_t bytes_max) { Exact(text, bytes_max); }
  void Parts(std::vector<std::string>& parts) {
    const uint32_t count = from_.U32();
    Demand(count <= static_cast<uint32_t>(kRanksMax));
    for (uint32_t i = 0; i < count && ok_ && from_.ok(); ++i) Exact(parts.emplace_back(), kGatherPartBytesMax);
  }
  uint8_t Byte() { return from_.U8(); }
  bool Done() const { return ok_ && from_.Done(); }

 private:
  void Demand(bool condition) { ok_ = ok_ && condition; }
  Decoder from_;
  bool ok_ = true;
};

// The fields of every message in order, for Writer and Reader alike.
template <typename Io, typename M>
void Fields(Io& io, M& m) {
  using T = std::remove_const_t<M>;
  if constexpr (std::same_as<T, Challenge>) {
    io.Array(m.nonce);
  } else if constexpr (std::same_as<T, Hello>) {
    io.Number(m.role, 1, 2);
    io.Number(m.rank, 0, kRanksMax - 1);
    io.Number(m.world_size, 1, kRanksMax);
    io.Number(m.pid, 0, kNumberMax);
    io.Text(m.host, kNameBytesMax);
    io.Array(m.nonce);
    io.Array(m.mac);
  } else if constexpr (std::same_as<T, Welcome>) {
    io.Exact(m.job_description, kDescriptionBytesMax);
    io.Span(m.deadline);
    io.Array(m.mac);
  } else if constexpr (std::same_as<T, Refused>) {
    io.Text(m.why, kControlTextBytesMax);
  } else if constexpr (std::same_as<T, Heartbeat>) {
    io.Number(m.step, -1, kNumberMax);
    io.Counter(m.progress);
    io.Flag(m.waiting);
  } else if constexpr (std::same_as<T, Gather>) {
    io.Exact(m.tag, kTagBytesMax);
    io.Counter(m.sequence);
    io.Exact(m.part, kGatherPartBytesMax);
  } else if constexpr (std::same_as<T, Gathered>) {
    io.Exact(m.tag, kTagBytesMax);
    io.Counter(m.sequence);
    io.Parts(m.parts);
  } else if constexpr (std::same_as<T, Event>) {
    io.Exact(m.text, kControlTextBytesMax);
  } else if constexpr (std::same_as<T, Request>) {
    io.Flag(m.stop);
    io.Number(m.saves, 0, kNumberMax);
  } else if constexpr (std::same_as<T, Failed>) {
    io.Text(m.why, kControlTextBytesMax);
    io.Number(m.exit_code, 0, 255);
  } else if constexpr (std::same_as<T, Leave>) {
    io.Number(m.status_code, 0, 16);
    io.Text(m.message, kControlTextBytesMax);
    io.Number(m.exit_code, -1, 255);
    io.Number(m.step, -1, kNumberMax);
  } else if constexpr (std::same_as<T, Query>) {
    io.Text(m.text, kControlTextBytesMax);
  } else if constexpr (std::same_as<T, Answer>) {
    io.Flag(m.ok);
    io.Text(m.text, kDescriptionBytesMax);
  } else if constexpr (std::same_as<T, MeshHello>) {
    io.Number(m.from, 0, kRanksMax - 1);
    io.Number(m.to, 0, kRanksMax - 1);
    io.Number(m.world_size, 1, kRanksMax);
    io.Number(m.view, 0, kNumberMax);
    io.Number(m.lane, 0, kLanesMax - 1);
    io.Number(m.attempt, 1, kNumberMax);
    io.Array(m.nonce);
    io.Array(m.mac);
  } else if constexpr (std::same_as<T, MeshWelcome>) {
    io.Array(m.mac);
  } else {
    static_assert(std::same_as<T, Farewell>);
  }
}

// A message of kind number `kind`, empty.
template <size_t i = 0>
bool Make(size_t kind, ControlMessage& message) {
  if constexpr (i < std::variant_size_v<ControlMessage>) {
    if (kind != i) return Make<i + 1>(kind, message);
    message.emplace<i>();
    return true;
  } else {
    return false;
  }
}

}  // namespace

std::vector<std::byte> Encode(const ControlMessage& message) {
  Writer writer;
  writer.to().U8(kControlVersion);
  writer.to().U8(static_cast<uint8_t>(message.index()));
  std::visit([&](const auto& m) { Fields(writer, m); }, message);
  return writer.to().Take();
}

StatusOr<ControlMessage> Decode(std::span<const std::byte> bytes) {
  if (bytes.size() < 2) return DataLoss("decode a control message: found ", bytes.size(), " bytes, expected at least 2");
  Reader reader(bytes);
  if (const int version = reader.Byte(); version != kControlVersion) {
    return WithHint(Unimplemented("decode a control message: found version ", version, ", expected ", int{kControlVersion}),
                    "all processes of a job must be of the same build");
  }
  const int kind = reader.Byte();
  ControlMessage message;
  if (!Make(static_cast<size_t>(kind), message)) {
    return DataLoss("decode a control message: found kind ", kind, ", expected less than ", std::variant_size_v<ControlMessage>);
  }
  std::visit([&](auto& m) { Fields(reader, m); }, message);
  if (!reader.Done()) {
    return DataLoss("decode a control message of ", bytes.size(), " bytes: a ", NameOf(message),
                    " has another length, or a field outside its range");
  }
  return message;
}

std::string_view NameOf(const ControlMessage& message) {
  constexpr std::string_view kNames[] = {"Challenge", "Hello",  "Welcome", "Refused",  "Heartbeat", "Gather", "Gathered",  "Event",
                                         "Request",   "Failed", "Leave",   "Farewell", "Query",     "Answer", "MeshHello", "MeshWelcome"};
  static_assert(std::size(kNames) == std::variant_size_v<ControlMessage>);
  return kNames[message.index()];
}

}  // namespace dtrain

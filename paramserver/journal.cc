#include "paramserver/journal.h"

#include <algorithm>
#include <utility>

#include "base/codec.h"
#include "base/crc32c.h"
#include "paramserver/durable_file.h"
#include "paramserver/limits.h"

namespace dtrain::ps {
namespace {

constexpr uint32_t kMagic = 0x4a535044;  // "DPSJ"
constexpr uint16_t kVersion = 1;
constexpr size_t kRecordHeaderBytes = 8;

std::vector<std::byte> HeaderBytes(uint64_t job, int server) {
  Encoder out;
  out.U32(kMagic);
  out.U16(kVersion);
  out.U32(static_cast<uint32_t>(server));
  out.U64(job);
  out.U32(Crc32c(out.bytes()));
  return out.Take();
}

uint32_t RecordCrc(uint32_t sequence, std::span<const std::byte> payload) {
  Encoder out;
  out.U32(sequence);
  return Crc32c(payload, Crc32c(out.bytes()));
}

std::vector<std::byte> RecordBytes(uint32_t sequence, const Decision& decision) {
  Encoder payload;
  payload.U8(static_cast<uint8_t>(decision.index()));
  if (const auto* grant = std::get_if<GrantDecision>(&decision)) {
    payload.I64(grant->step);
    payload.U32(static_cast<uint32_t>(grant->slot));
    payload.U32(static_cast<uint32_t>(grant->worker));
  } else {
    payload.I64(std::get<SkipDecision>(decision).step);
  }
  Encoder out;
  out.U32(static_cast<uint32_t>(payload.bytes().size()));
  out.U32(RecordCrc(sequence, payload.bytes()));
  std::vector<std::byte> bytes = out.Take();
  bytes.insert(bytes.end(), payload.bytes().begin(), payload.bytes().end());
  return bytes;
}

std::optional<Decision> DecisionOf(std::span<const std::byte> payload) {
  Decoder in(payload);
  const uint8_t kind = in.U8();
  Decision decision;
  if (kind == 0) {
    GrantDecision grant{.step = in.I64()};
    grant.slot = static_cast<int32_t>(in.U32());
    grant.worker = static_cast<int32_t>(in.U32());
    if (grant.step < 0 || grant.slot < 0 || grant.slot >= kLeavesMax || grant.worker < 0 || grant.worker >= kWorkersMax)
      return std::nullopt;
    decision = grant;
  } else if (kind == 1) {
    const SkipDecision skip{in.I64()};
    if (skip.step < 0) return std::nullopt;
    decision = skip;
  } else {
    return std::nullopt;
  }
  if (!in.Done()) return std::nullopt;
  return decision;
}

// The record number `sequence` at the begin of `bytes` and its size; nothing if there is none.
std::optional<std::pair<Decision, size_t>> RecordAt(std::span<const std::byte> bytes, uint32_t sequence) {
  Decoder in(bytes);
  const uint32_t length = in.U32(), crc = in.U32();
  if (!in.ok() || length > kJournalRecordBytesMax || length > bytes.size() - kRecordHeaderBytes) return std::nullopt;
  const auto payload = bytes.subspan(kRecordHeaderBytes, length);
  if (RecordCrc(sequence, payload) != crc) return std::nullopt;
  const auto decision = DecisionOf(payload);
  if (!decision) return std::nullopt;
  return std::pair(*decision, kRecordHeaderBytes + length);
}

}  // namespace

Journal::Journal(Storage& storage, std::string directory, uint64_t job, int server)
    : storage_(storage), directory_(std::move(directory)), job_(job), server_(server) {}

std::string Journal::path() const { return Cat(directory_, "/journal-", server_); }

StatusOr<std::unique_ptr<Journal>> Journal::Open(Storage& storage, const std::string& directory, uint64_t job, int server) {
  std::unique_ptr<Journal> journal(new Journal(storage, directory, job, server));
  RETURN_IF_ERROR(MakeDurableDirectory(storage, directory));
  const std::string path = journal->path();
  ASSIGN_OR_RETURN(const bool exists, storage.Exists(path));
  if (exists) {
    ASSIGN_OR_RETURN(const auto file, storage.Open(path));
    if (file->bytes() > kJournalRecordsMax * kRecordHeaderBytes * 4) {
      return DataLoss("open ", path, ": ", file->bytes(), " bytes; expected at most ", kJournalRecordsMax * kRecordHeaderBytes * 4);
    }
    std::vector<std::byte> bytes(file->bytes());
    RETURN_IF_ERROR(file->ReadAt(0, bytes));
    const auto expected = HeaderBytes(job, server);
    // A file gets its name only when its header is on the disk, so the header is never torn.
    if (bytes.size() < expected.size() ||
        Crc32c(std::span(bytes).first(expected.size() - 4)) != Decoder(std::span(bytes).subspan(expected.size() - 4)).U32()) {
      return DataLoss("open ", path, ": its header is damaged");
    }
    if (!std::equal(expected.begin(), expected.end(), bytes.begin())) {
      return WithHint(FailedPrecondition("open ", path, ": it is the journal of another job or server"),
                      "give each job a directory of its own");
    }
    std::span<const std::byte> rest = std::span(bytes).subspan(expected.size());
    while (const auto record = RecordAt(rest, static_cast<uint32_t>(journal->decisions_.size()))) {
      journal->decisions_.push_back(record->first);
      rest = rest.subspan(record->second);
    }
    // Behind a record that was torn there is nothing that was ever acknowledged, so no record with a later number.
    const auto count = static_cast<uint32_t>(journal->decisions_.size());
    for (size_t at = 1; at < rest.size(); ++at) {
      for (uint32_t later = count; later < count + 3; ++later) {
        if (RecordAt(rest.subspan(at), later)) {
          return DataLoss("open ", path, ": record ", count, " is damaged, and others follow it");
        }
      }
    }
  }
  // Written anew, so that what is appended does not stand behind torn bytes.
  RETURN_IF_ERROR(journal->Rewrite());
  return journal;
}

Status Journal::Rewrite() {
  const std::string fresh = path() + ".tmp";
  ASSIGN_OR_RETURN(file_, storage_.Create(fresh));
  RETURN_IF_ERROR(file_->Append(HeaderBytes(job_, server_)));
  next_ = 0;
  for (const Decision& decision : decisions_) RETURN_IF_ERROR(file_->Append(RecordBytes(next_++, decision)));
  RETURN_IF_ERROR(file_->Sync());
  RETURN_IF_ERROR(storage_.Rename(fresh, path()));
  return storage_.SyncDirectory(directory_);
}

Status Journal::Append(const Decision& decision) {
  if (decisions_.size() >= kJournalRecordsMax)
    return ResourceExhausted("append to ", path(), ": it holds ", decisions_.size(), " decisions, as many as it may");
  decisions_.push_back(decision);
  return file_->Append(RecordBytes(next_++, decision));
}

Status Journal::Sync() { return file_->Sync(); }

Status Journal::Cut(Step step) {
  std::erase_if(decisions_, [&](const Decision& decision) { return std::visit([](const auto& d) { return d.step; }, decision) < step; });
  return Rewrite();
}

Status Outbox::Put(Effects effects, TimePoint now) {
  for (const Decision& decision : effects.decisions) {
    RETURN_IF_ERROR(journal_.Append(decision));
    ++written_;
    if (!first_unsynced_) first_unsynced_ = now;
  }
  if (!effects.messages.empty()) batches_.push_back({written_, std::move(effects.messages)});
  return OkStatus();
}

StatusOr<std::vector<Outgoing>> Outbox::Take(TimePoint now) {
  if (NextSync() <= now) {
    RETURN_IF_ERROR(journal_.Sync());
    synced_ = written_;
    first_unsynced_.reset();
  }
  std::vector<Outgoing> messages;
  while (!batches_.empty() && batches_.front().after <= synced_) {
    std::ranges::move(batches_.front().messages, std::back_inserter(messages));
    batches_.pop_front();
  }
  return messages;
}

}  // namespace dtrain::ps

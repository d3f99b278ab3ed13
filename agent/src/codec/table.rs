//! The devices and series of a batch, and the order in which the series spoke last.

use super::name::Name;
use super::series::{Device, NONE, Series, Shared};

/// The table of a batch, or of the frame being decoded.
pub(crate) struct Table<const SERIES: usize, const DEVICES: usize> {
    pub(crate) devices: [Device; DEVICES],
    pub(crate) devices_len: u16,
    pub(crate) series: [Series; SERIES],
    pub(crate) series_len: u16,
    /// Devices and series declared in this frame so far.
    pub(crate) frame_devices: u16,
    pub(crate) frame_series: u16,
    /// The channel last named by reference, the device last declared into.
    pub(crate) channel_before: u16,
    pub(crate) device_before: u16,
    /// The series and the time of the reading before.
    pub(crate) previous: u16,
    pub(crate) previous_ms: i64,
    /// The series and the device declared last in this frame: new names resemble theirs.
    pub(crate) series_declared: u16,
    pub(crate) device_declared: u16,
    pub(crate) shared: Shared,
    order: [Link; SERIES],
    longest_silent: u16,
    latest: u16,
}

/// Neighbours in the order of last readings.
#[derive(Clone, Copy)]
struct Link {
    earlier: u16,
    later: u16,
}

impl<const SERIES: usize, const DEVICES: usize> Table<SERIES, DEVICES> {
    pub(crate) const NEW: Self = Self {
        devices: [Device::NEW; DEVICES],
        devices_len: 0,
        series: [Series::NEW; SERIES],
        series_len: 0,
        frame_devices: 0,
        frame_series: 0,
        channel_before: 0,
        device_before: 0,
        previous: NONE,
        previous_ms: 0,
        series_declared: NONE,
        device_declared: NONE,
        shared: Shared::NEW,
        order: [Link { earlier: NONE, later: NONE }; SERIES],
        longest_silent: NONE,
        latest: NONE,
    };

    /// Adds a device; `None` if there is no room.
    pub(crate) fn add_device(&mut self, name: Name, boot: u64) -> Option<u16> {
        let id = self.devices_len;
        let device = self.devices.get_mut(usize::from(id))?;
        *device = Device { name, boot, ..Device::NEW };
        self.devices_len += 1;
        Some(id)
    }

    /// Adds a series; `None` if there is no room.
    pub(crate) fn add_series(&mut self, device: u16, channel: Name) -> Option<u16> {
        let id = self.series_len;
        let series = self.series.get_mut(usize::from(id))?;
        *series = Series { channel, device, ..Series::NEW };
        self.series_len += 1;
        Some(id)
    }

    pub(crate) fn find_device(&self, name: &Name, boot: u64) -> Option<u16> {
        let devices = self.devices[..usize::from(self.devices_len)].iter();
        (0..).zip(devices).find(|(_, device)| device.boot == boot && device.name == *name).map(|(id, _)| id)
    }

    pub(crate) fn find_series(&self, device: u16, channel: &Name) -> Option<u16> {
        let series = self.series[..usize::from(self.series_len)].iter();
        (0..).zip(series).find(|(_, s)| s.device == device && s.channel == *channel).map(|(id, _)| id)
    }

    /// Forgets what one frame taught; names, decimals and ticks stay.
    pub(crate) fn forget_frame(&mut self) {
        for device in &mut self.devices[..usize::from(self.devices_len)] {
            device.forget();
        }
        for series in &mut self.series[..usize::from(self.series_len)] {
            series.frame_id = NONE;
        }
        self.frame_devices = 0;
        self.frame_series = 0;
        self.channel_before = 0;
        self.device_before = 0;
        self.previous = NONE;
        self.previous_ms = 0;
        self.series_declared = NONE;
        self.device_declared = NONE;
        self.shared = Shared::NEW;
        self.longest_silent = NONE;
        self.latest = NONE;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.forget_frame();
        self.devices_len = 0;
        self.series_len = 0;
    }

    /// The series expected next.
    #[inline]
    pub(crate) fn expected(&self) -> u16 {
        self.series.get(usize::from(self.previous)).map_or(NONE, |previous| previous.successor)
    }

    /// Puts a newly declared series at the end of the order.
    pub(crate) fn enter(&mut self, id: u16) {
        self.order[usize::from(id)] = Link { earlier: self.latest, later: NONE };
        match self.order.get_mut(usize::from(self.latest)) {
            Some(link) => link.later = id,
            None => self.longest_silent = id,
        }
        self.latest = id;
    }

    /// Moves a series that spoke to the end of the order.
    #[inline]
    pub(crate) fn touch(&mut self, id: u16) {
        if self.latest == id {
            return;
        }
        let Link { earlier, later } = self.order[usize::from(id)];
        match self.order.get_mut(usize::from(earlier)) {
            Some(link) => link.later = later,
            None => self.longest_silent = later,
        }
        if let Some(link) = self.order.get_mut(usize::from(later)) {
            link.earlier = earlier;
        }
        self.enter(id);
    }

    /// How many series were silent for longer than `id`.
    pub(crate) fn rank(&self, id: u16) -> i64 {
        let mut rank = 0;
        let mut at = self.longest_silent;
        while at != id && at != NONE {
            at = self.order[usize::from(at)].later;
            rank += 1;
        }
        rank
    }

    /// The series at `rank`, if there are so many.
    pub(crate) fn at_rank(&self, rank: i64) -> Option<u16> {
        let mut at = self.longest_silent;
        for _ in 0..u16::try_from(rank).ok()? {
            at = self.order.get(usize::from(at))?.later;
        }
        (at != NONE).then_some(at)
    }
}
